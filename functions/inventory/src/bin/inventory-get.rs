//! `GET /inventory/{sku}`.

use inventory::{endpoints, store::Inventory};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Inventory::connect().await?).on("GET", "/inventory/{sku}", endpoints::get).serve().await
}
