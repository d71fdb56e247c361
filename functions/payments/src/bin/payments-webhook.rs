//! `POST /payments/webhook`.

use payments::{cashier::Cashier, endpoints};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Cashier::connect().await?)
        .on("POST", "/payments/webhook", endpoints::webhook)
        .serve()
        .await
}
