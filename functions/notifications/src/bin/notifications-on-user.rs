//! Consumes `user.created`, `user.updated` and `user.deleted`.

use std::process::ExitCode;

use notifications::{consumers, store::Notifications};
use runtime::serve::queue;

fn main() -> ExitCode {
    runtime::run(async || queue::serve(Notifications::connect().await?, consumers::on_user).await)
}
