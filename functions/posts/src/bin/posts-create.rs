//! `POST /posts`.

use posts::{endpoints, store::Posts};
use runtime::{Error, http::Endpoints, users::UsersClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new((Posts::connect().await?, UsersClient::rpc().await?))
        .on("POST", "/posts", endpoints::create)
        .serve()
        .await
}
