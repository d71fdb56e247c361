//! The running system, from outside. No test here changes what another uses: whatever is to fail fails in a copy.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test may do this")]

mod api;
mod clients;
mod discovery;
mod faults;
mod saga;
mod traces;
