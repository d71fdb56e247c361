//! `GET /posts`.

use std::process::ExitCode;

use posts::{endpoints, store::Posts};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async {
        Endpoints::new(Posts::connect().await?).on("GET", "/posts", endpoints::list).serve().await
    })
}
