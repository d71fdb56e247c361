//! `PUT /registry/{service}/instances/{id}`.

use std::process::ExitCode;

use registry::endpoints;
use runtime::{aws::cloud_map::Registry, serve::http::Endpoints};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Registry::connect().await?).on(
            "PUT",
            "/registry/{service}/instances/{id}",
            endpoints::register,
        ))
    })
}
