//! Aborts the order: decides that it will not be confirmed.

use std::process::ExitCode;

use orders::{store::Orders, tasks};
use runtime::serve::task;

fn main() -> ExitCode {
    runtime::run(async || Ok(task::serve(Orders::connect().await?, tasks::abort)))
}
