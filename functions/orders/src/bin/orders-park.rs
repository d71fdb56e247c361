//! Parks an order that cannot be settled for an operator, or resumes it after a redrive.

use std::process::ExitCode;

use orders::{store::Orders, tasks};
use runtime::serve::task;

fn main() -> ExitCode {
    runtime::run(async || Ok(task::serve(Orders::connect().await?, tasks::park)))
}
