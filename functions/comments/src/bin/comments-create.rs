//! `POST /posts/{id}/comments`.

use std::process::ExitCode;

use comments::{endpoints, store::Comments};
use runtime::{serve::http::Endpoints, users::UsersClient};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new((Comments::connect().await?, UsersClient::rpc().await?)).on(
            "POST",
            "/posts/{id}/comments",
            endpoints::create,
        ))
    })
}
