//! `POST /posts`.

use std::process::ExitCode;

use posts::{endpoints, store::Posts};
use runtime::{serve::http::Endpoints, table::limits::HourlyLimit, users::UsersClient};

fn main() -> ExitCode {
    runtime::run(async || {
        let limit = HourlyLimit::from_environment("POSTS_PER_HOUR", "posts")?;
        Ok(Endpoints::new((Posts::connect().await?, UsersClient::rpc().await?, limit)).on(
            "POST",
            "/posts",
            endpoints::create,
        ))
    })
}
