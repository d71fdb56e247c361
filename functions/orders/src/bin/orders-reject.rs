//! The saga's last compensation: settles an order for which everything else is compensated.

use std::process::ExitCode;

use orders::{store::Orders, tasks};
use runtime::serve::task;

fn main() -> ExitCode {
    runtime::run(async || Ok(task::serve(Orders::connect().await?, tasks::reject)))
}
