//! `GET /internal/users/{id}`, and the same lookup by direct invoke.

use std::process::ExitCode;

use runtime::serve::http::Endpoints;
use users::{endpoints, store::Profiles};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Profiles::connect().await?)
            .on("GET", "/internal/users/{id}", endpoints::lookup)
            .with_calls(endpoints::lookup_call))
    })
}
