//! The saga's pivot: confirms the order.

use std::process::ExitCode;

use orders::{store::Orders, tasks};
use runtime::serve::task;

fn main() -> ExitCode {
    runtime::run(async || Ok(task::serve(Orders::connect().await?, tasks::confirm)))
}
