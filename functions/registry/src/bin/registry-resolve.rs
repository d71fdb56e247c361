//! `GET /registry/{service}`.

use std::process::ExitCode;

use registry::endpoints;
use runtime::{aws::cloud_map::CloudMap, serve::http::Endpoints};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(CloudMap::connect().await?).on("GET", "/registry/{service}", endpoints::resolve))
    })
}
