//! `GET /posts`.

use std::process::ExitCode;

use posts::{endpoints, store::Posts};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Posts::connect().await?).on("GET", "/posts{?author,limit,cursor}", endpoints::list))
    })
}
