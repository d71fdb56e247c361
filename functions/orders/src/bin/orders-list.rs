//! `GET /orders`.

use std::process::ExitCode;

use orders::{endpoints, store::Orders};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Orders::connect().await?).on("GET", "/orders{?limit,cursor}", endpoints::list))
    })
}
