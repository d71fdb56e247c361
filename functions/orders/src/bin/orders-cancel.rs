//! `POST /orders/{id}/cancel`.

use orders::{endpoints, store::Orders};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Orders::connect().await?)
        .on("POST", "/orders/{id}/cancel", endpoints::cancel)
        .serve()
        .await
}
