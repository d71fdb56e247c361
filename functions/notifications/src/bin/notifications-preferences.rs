//! `GET /notifications/preferences` and `PUT /notifications/preferences`.

use std::process::ExitCode;

use notifications::{endpoints, store::Notifications};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Notifications::connect().await?)
            .on("GET", "/notifications/preferences", endpoints::preferences)
            .on("PUT", "/notifications/preferences", endpoints::set_preferences))
    })
}
