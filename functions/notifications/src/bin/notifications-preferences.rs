//! `GET /notifications/preferences` and `PUT /notifications/preferences`.

use notifications::{endpoints, store::Notifications};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Notifications::connect().await?)
        .on("GET", "/notifications/preferences", endpoints::preferences)
        .on("PUT", "/notifications/preferences", endpoints::set_preferences)
        .serve()
        .await
}
