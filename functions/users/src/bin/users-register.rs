//! `POST /users`.

use std::process::ExitCode;

use runtime::{aws::identity_provider::UserPool, serve::http::Endpoints};
use users::{endpoints, store::Profiles};

fn main() -> ExitCode {
    runtime::run(async || {
        let state = (Profiles::connect().await?, UserPool::connect().await?);
        Ok(Endpoints::new(state).on("POST", "/users", endpoints::register))
    })
}
