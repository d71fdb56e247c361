//! `GET /inventory`.

use std::process::ExitCode;

use inventory::{endpoints, store::Inventory};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Inventory::connect().await?).on(
            "GET",
            "/inventory{?limit,cursor}",
            endpoints::list,
        ))
    })
}
