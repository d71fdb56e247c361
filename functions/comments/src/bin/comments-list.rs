//! `GET /posts/{id}/comments`.

use std::process::ExitCode;

use comments::{endpoints, store::Comments};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Comments::connect().await?).on(
            "GET",
            "/posts/{id}/comments{?limit,cursor}",
            endpoints::list,
        ))
    })
}
