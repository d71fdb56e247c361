//! `GET /orders/{id}/payment`.

use payments::{endpoints, store::Payments};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Payments::connect().await?).on("GET", "/orders/{id}/payment", endpoints::get).serve().await
}
