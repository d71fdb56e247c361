//! `DELETE /users/me`.

use runtime::{Error, http::Endpoints};
use users::{endpoints, store::Profiles};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Profiles::connect().await?).on("DELETE", "/users/me", endpoints::delete).serve().await
}
