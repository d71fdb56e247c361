//! The order saga against the deployed state machine: it settles, whatever fails on the way.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test may do this")]

mod attempts;
mod cancellation;
mod faults;
mod load;
mod parking;
mod path;

use tokio::sync::Mutex;

/// Held by who has faults injected: the steps are told once where to look for them, and so told no longer.
static FAULTS: Mutex<()> = Mutex::const_new(());
