//! `GET /openapi.json`, `GET /openapi-3.0.json`, `GET /docs` and `GET /docs/{file}`.

use std::process::ExitCode;

use api_docs::{endpoints, page::Page};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Page::connect()?)
            .on("GET", "/openapi.json", endpoints::description)
            .on("GET", "/openapi-3.0.json", endpoints::older_description)
            .on("GET", "/docs", endpoints::page)
            .on("GET", "/docs/{file}", endpoints::file))
    })
}
