//! Consumes `user.created`, `user.updated` and `user.deleted`.

use std::process::ExitCode;

use orders::{consumers, store::Orders};
use runtime::serve::queue;

fn main() -> ExitCode {
    runtime::run(async || queue::serve(Orders::connect().await?, consumers::on_user).await)
}
