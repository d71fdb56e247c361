//! `GET /orders/{id}/payment`.

use std::process::ExitCode;

use payments::{endpoints, store::Payments};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Payments::connect().await?).on("GET", "/orders/{id}/payment", endpoints::get))
    })
}
