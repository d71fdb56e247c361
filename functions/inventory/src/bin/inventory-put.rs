//! `PUT /inventory/{sku}`.

use std::process::ExitCode;

use inventory::{endpoints, store::Inventory};
use runtime::{aws::identity_provider::UserPool, serve::http::Endpoints};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new((Inventory::connect().await?, UserPool::connect().await?)).on(
            "PUT",
            "/inventory/{sku}",
            endpoints::put,
        ))
    })
}
