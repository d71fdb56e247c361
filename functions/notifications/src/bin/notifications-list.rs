//! `GET /notifications`.

use std::process::ExitCode;

use notifications::{endpoints, store::Notifications};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Notifications::connect().await?).on(
            "GET",
            "/notifications{?unread,limit,cursor}",
            endpoints::list,
        ))
    })
}
