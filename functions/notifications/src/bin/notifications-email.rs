//! Consumes `notification.created`.

use std::process::ExitCode;

use notifications::{consumers, store::Notifications};
use runtime::{aws::mail::Mailer, serve::queue, users::UsersClient};

fn main() -> ExitCode {
    runtime::run(async || {
        let state = (Notifications::connect().await?, UsersClient::http().await?, Mailer::connect().await?);
        queue::serve(state, consumers::email).await
    })
}
