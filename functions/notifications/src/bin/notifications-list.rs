//! `GET /notifications`.

use notifications::{endpoints, store::Notifications};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Notifications::connect().await?).on("GET", "/notifications", endpoints::list).serve().await
}
