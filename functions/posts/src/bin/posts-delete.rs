//! `DELETE /posts/{id}`.

use posts::{endpoints, store::Posts};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Posts::connect().await?).on("DELETE", "/posts/{id}", endpoints::delete).serve().await
}
