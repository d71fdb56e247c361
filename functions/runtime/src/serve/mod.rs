//! Serves a function: turns Lambda's events into calls of a handler, and its results into what Lambda's caller expects.
//!
//! | module | what it does |
//! |---|---|
//! | [`http`] | serves endpoints, invoked by API Gateway |
//! | [`queue`] | serves a consumer, invoked by an SQS queue behind the event bus |
//! | [`cascade`] | a consumer's change of many items, in several messages |
//! | [`stream`] | serves a function that a table's stream invokes |
//! | [`task`] | serves a step of the order saga, invoked by the state machine |
//! | [`schedule`] | serves a function that a schedule invokes |
//! | `faults` | faults that tests inject into steps; not part of a release build |
//!
//! Each `serve` runs an invocation as one unit of work in the trace and the log. All but `stream` pass on its
//! [`Deadline`](crate::deadline::Deadline). A panic of a handler is an error of that request, message or step; elsewhere it fails
//! the invocation.

pub mod cascade;
#[cfg(debug_assertions)]
mod faults;
pub mod http;
pub mod queue;
pub mod schedule;
pub mod stream;
pub mod task;

/// The public name of every retryable error, in traces and for the state machine.
const RETRYABLE: &str = "Transient";
