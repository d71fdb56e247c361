//! `GET /users/me` and `GET /users/{id}`.

use runtime::{Error, http::Endpoints};
use users::{endpoints, store::Profiles};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Profiles::connect().await?)
        .on("GET", "/users/me", endpoints::get_own)
        .on("GET", "/users/{id}", endpoints::get)
        .serve()
        .await
}
