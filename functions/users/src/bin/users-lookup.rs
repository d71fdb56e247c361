//! `GET /internal/users/{id}`, and the same as a direct invoke.

use runtime::{Error, http::Endpoints};
use users::{endpoints, store::Profiles};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Profiles::connect().await?)
        .on("GET", "/internal/users/{id}", endpoints::lookup)
        .serve_with_calls(endpoints::lookup_call)
        .await
}
