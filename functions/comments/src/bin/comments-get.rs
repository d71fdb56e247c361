//! `GET /posts/{id}/comments/{comment_id}`.

use std::process::ExitCode;

use comments::{endpoints, store::Comments};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Comments::connect().await?).on(
            "GET",
            "/posts/{id}/comments/{comment_id}",
            endpoints::get,
        ))
    })
}
