//! `GET /posts/{id}/comments`.

use comments::{endpoints, store::Comments};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Comments::connect().await?)
        .on("GET", "/posts/{id}/comments", endpoints::list)
        .serve()
        .await
}
