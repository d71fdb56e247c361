//! Serves a function: turns Lambda's events into calls of a handler, and its results into what Lambda's caller expects.
//!
//! | module | invoked by |
//! |---|---|
//! | [`http`] | API Gateway, for an endpoint |
//! | [`queue`] | an SQS queue behind the event bus, for a consumer |
//! | [`cascade`] | not served: a consumer's change of many items, in several messages |
//! | [`stream`] | a table's stream |
//! | [`task`] | the state machine, for a step of the order saga |
//! | [`schedule`] | a schedule |
//! | `faults` | not served: faults that tests inject into steps; not part of a release build |
//!
//! Each starts one unit of work in the trace and the log, hands down its [`Deadline`](crate::deadline::Deadline), and turns a
//! panic of the handler into an error.

pub mod cascade;
#[cfg(debug_assertions)]
mod faults;
pub mod http;
pub mod queue;
pub mod schedule;
pub mod stream;
pub mod task;
