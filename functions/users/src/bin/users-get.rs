//! `GET /users/me` and `GET /users/{id}`.

use std::process::ExitCode;

use runtime::serve::http::Endpoints;
use users::{endpoints, store::Profiles};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Profiles::connect().await?).on("GET", "/users/me", endpoints::get_own).on(
            "GET",
            "/users/{id}",
            endpoints::get,
        ))
    })
}
