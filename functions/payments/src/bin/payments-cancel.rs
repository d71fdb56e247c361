//! `CancelPayment` of the order saga.

use std::process::ExitCode;

use payments::{cashier::Cashier, tasks};
use runtime::serve::task;

fn main() -> ExitCode {
    runtime::run(async || Ok(task::serve(Cashier::connect().await?, tasks::cancel)))
}
