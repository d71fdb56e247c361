//! `POST /posts/{id}/comments`.

use comments::{endpoints, store::Comments};
use runtime::{Error, http::Endpoints, users::UsersClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new((Comments::connect().await?, UsersClient::rpc().await?))
        .on("POST", "/posts/{id}/comments", endpoints::create)
        .serve()
        .await
}
