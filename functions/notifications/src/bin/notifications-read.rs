//! `POST /notifications/{id}/read` and `POST /notifications/read-all`.

use notifications::{endpoints, store::Notifications};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Notifications::connect().await?)
        .on("POST", "/notifications/{id}/read", endpoints::read)
        .on("POST", "/notifications/read-all", endpoints::read_all)
        .serve()
        .await
}
