//! Consumes `user.created`, `user.updated` and `user.deleted`.

use std::process::ExitCode;

use posts::{consumers, store::Posts};
use runtime::serve::queue;

fn main() -> ExitCode {
    runtime::run(async || queue::serve(Posts::connect().await?, consumers::on_user).await)
}
