//! `GET /openapi.json`, `GET /docs` and `GET /docs/{file}`.

use api_docs::{endpoints, page::Page};
use runtime::{Error, http::Endpoints};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Endpoints::new(Page::connect()?)
        .on("GET", "/openapi.json", endpoints::description)
        .on("GET", "/docs", endpoints::page)
        .on("GET", "/docs/{file}", endpoints::file)
        .serve()
        .await
}
