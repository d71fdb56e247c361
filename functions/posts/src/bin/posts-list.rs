//! `GET /posts`.

use posts::{endpoints, store::Posts};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Posts::connect().await?).on("GET", "/posts", endpoints::list).serve().await
}
