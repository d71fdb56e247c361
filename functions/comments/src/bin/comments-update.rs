//! `PATCH /posts/{id}/comments/{comment_id}`.

use comments::{endpoints, store::Comments};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Comments::connect().await?)
        .on("PATCH", "/posts/{id}/comments/{comment_id}", endpoints::update)
        .serve()
        .await
}
