//! `POST /users`.

use runtime::{Error, http::Endpoints, identity_provider::UserPool};
use users::{endpoints, store::Profiles};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let state = (Profiles::connect().await?, UserPool::connect().await?);
    Endpoints::new(state).on("POST", "/users", endpoints::register).serve().await
}
