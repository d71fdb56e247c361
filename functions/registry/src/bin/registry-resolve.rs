//! `GET /registry/{service}`.

use registry::endpoints;
use runtime::{Error, cloud_map::CloudMap, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(CloudMap::connect().await?)
        .on("GET", "/registry/{service}", endpoints::resolve)
        .serve()
        .await
}
