//! `GET /posts/{id}/author`.

use std::process::ExitCode;

use posts::{endpoints, store::Posts};
use runtime::{serve::http::Endpoints, users::UsersClient};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new((Posts::connect().await?, UsersClient::rpc().await?)).on(
            "GET",
            "/posts/{id}/author",
            endpoints::author,
        ))
    })
}
