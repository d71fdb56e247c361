//! The running system, tested from outside. No test here changes what another one uses: a test that needs a failure makes a
//! copy of a function fail.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test may do this")]

mod api;
mod clients;
mod discovery;
mod faults;
mod saga;
mod traces;
