//! `DELETE /registry/{service}/instances/{id}`.

use registry::endpoints;
use runtime::{Error, cloud_map::Registry, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Registry::connect().await?)
        .on("DELETE", "/registry/{service}/instances/{id}", endpoints::deregister)
        .serve()
        .await
}
