//! Tests without a running system: the contract matches the code, and a model of the order saga keeps its invariants.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test may do this")]

mod catalogue;
mod contract;
mod model;
