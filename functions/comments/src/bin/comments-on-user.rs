//! Consumes `user.created`, `user.updated` and `user.deleted`.

use std::process::ExitCode;

use comments::{consumers, store::Comments};
use runtime::serve::queue;

fn main() -> ExitCode {
    runtime::run(async || queue::serve(Comments::connect().await?, consumers::on_user).await)
}
