//! The running system with something of it broken: functions with other settings, queues that deliver nothing, the local cloud
//! restarted. The tests run side by side all the same: each waits for its turn with what it changes and what it needs.

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
