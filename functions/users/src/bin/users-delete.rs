//! `DELETE /users/me`.

use std::process::ExitCode;

use runtime::serve::http::Endpoints;
use users::{endpoints, store::Profiles};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Profiles::connect().await?).on("DELETE", "/users/me", endpoints::delete))
    })
}
