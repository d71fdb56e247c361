//! `PATCH /users/me`.

use runtime::{Error, http::Endpoints};
use users::{endpoints, store::Profiles};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Profiles::connect().await?).on("PATCH", "/users/me", endpoints::update).serve().await
}
