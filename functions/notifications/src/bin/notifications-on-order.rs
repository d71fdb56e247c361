//! Consumes what happens to orders.

use std::process::ExitCode;

use notifications::{consumers, store::Notifications};
use runtime::serve::queue;

fn main() -> ExitCode {
    runtime::run(async || queue::serve(Notifications::connect().await?, consumers::on_order).await)
}
