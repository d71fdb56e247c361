//! What can be said without a running system: what is promised is what the code says, and the order saga's protocol, explored.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test may do this")]

mod catalogue;
mod contract;
mod model;
