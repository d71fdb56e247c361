//! `GET /posts/{id}/author`.

use posts::{endpoints, store::Posts};
use runtime::{Error, http::Endpoints, users::UsersClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new((Posts::connect().await?, UsersClient::rpc().await?))
        .on("GET", "/posts/{id}/author", endpoints::author)
        .serve()
        .await
}
