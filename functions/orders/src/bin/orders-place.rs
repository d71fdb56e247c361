//! `POST /orders`.

use orders::{endpoints, store::Orders};
use runtime::{Error, http::Endpoints, users::UsersClient, workflow::Workflow};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new((Orders::connect().await?, UsersClient::rpc().await?, Workflow::connect().await?))
        .on("POST", "/orders", endpoints::place)
        .serve()
        .await
}
