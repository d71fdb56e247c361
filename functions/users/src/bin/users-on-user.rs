//! Consumes `user.deleted`.

use std::process::ExitCode;

use runtime::{aws::identity_provider::UserPool, serve::queue};
use users::consumers;

fn main() -> ExitCode {
    runtime::run(async || queue::serve(UserPool::connect().await?, consumers::on_user).await)
}
