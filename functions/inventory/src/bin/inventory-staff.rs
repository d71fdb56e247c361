//! `GET /staff/inventory` and `GET /staff/inventory/{sku}`.

use std::process::ExitCode;

use inventory::{endpoints, store::Inventory};
use runtime::{aws::identity_provider::UserPool, serve::http::Endpoints};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new((Inventory::connect().await?, UserPool::connect().await?))
            .on("GET", "/staff/inventory{?limit,cursor}", endpoints::staff_list)
            .on("GET", "/staff/inventory/{sku}", endpoints::staff_get))
    })
}
