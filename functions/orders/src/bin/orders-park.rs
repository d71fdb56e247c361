//! Leaves an order that cannot be settled to a person, or takes it up again after one.

use std::process::ExitCode;

use orders::{store::Orders, tasks};
use runtime::serve::task;

fn main() -> ExitCode {
    runtime::run(async { task::serve(Orders::connect().await?, tasks::park).await })
}
