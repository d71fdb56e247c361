//! The running system with one part of it broken: a function with other settings, a queue that delivers nothing, the local
//! cloud restarted. The tests still run in parallel: each waits for its turn with what it changes and what it needs.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test may do this")]

mod alarms;
mod crashes;
mod mail;
mod refusals;
mod relay;
mod restart;
mod saga;
mod stripe;
mod traces;
