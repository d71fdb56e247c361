//! `POST /posts/{id}/comments`.

use std::process::ExitCode;

use comments::{endpoints, store::Comments};
use runtime::{serve::http::Endpoints, table::limits::HourlyLimit, users::UsersClient};

fn main() -> ExitCode {
    runtime::run(async || {
        let limit = HourlyLimit::from_environment("COMMENTS_PER_HOUR", "comments")?;
        Ok(Endpoints::new((Comments::connect().await?, UsersClient::rpc().await?, limit)).on(
            "POST",
            "/posts/{id}/comments",
            endpoints::create,
        ))
    })
}
