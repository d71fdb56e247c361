//! `POST /notifications/{id}/read` and `POST /notifications/read-all`.

use std::process::ExitCode;

use notifications::{endpoints, store::Notifications};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Notifications::connect().await?)
            .on("POST", "/notifications/{id}/read", endpoints::read)
            .on("POST", "/notifications/read-all", endpoints::read_all))
    })
}
