//! `ReserveInventory` of the order saga.

use std::process::ExitCode;

use inventory::{store::Inventory, tasks};
use runtime::serve::task;

fn main() -> ExitCode {
    runtime::run(async || Ok(task::serve(Inventory::connect().await?, tasks::reserve)))
}
