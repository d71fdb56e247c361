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
//! | `start` | connects a function and passes it Lambda's events |
//! | `faults` | faults that tests inject; not part of a release build |
//!
//! Each of the five makes a [`Function`], which runs an invocation as one unit of work in the trace and the log, and ends it before
//! its [`Deadline`](crate::deadline::Deadline), because Lambda ends it then without a word. A panic of a handler is an error of
//! that request, message or step; elsewhere it fails the invocation.

pub mod cascade;
#[cfg(debug_assertions)]
mod faults;
pub mod http;
pub mod queue;
pub mod schedule;
mod start;
pub mod stream;
pub mod task;

use lambda_runtime::{Context, Diagnostic};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

pub(crate) use self::start::serve;

/// The public name of an error that a retry may fix, in traces and for the state machine.
const RETRYABLE: &str = "Transient";
/// The public name of the error that a dependency does not answer or throttles, in traces and for the state machine.
const UNAVAILABLE: &str = "Unavailable";

/// A function that is connected and can handle events.
pub trait Function {
    /// Handles one event of Lambda. The event is passed as it came, so that one that cannot be read is an error of this invocation,
    /// with its line in the log.
    fn handle(
        &self,
        event: &RawValue,
        context: &Context,
    ) -> impl Future<Output = Result<Box<RawValue>, Diagnostic>>;
}

/// A function's answer in JSON.
fn answer(answer: &impl Serialize) -> Result<Box<RawValue>, Diagnostic> {
    to_raw_value(answer).map_err(|error| failed(&error))
}

/// An error that Lambda reports to the function's caller.
fn failed(error: &impl ToString) -> Diagnostic {
    Diagnostic { error_type: RETRYABLE.to_owned(), error_message: error.to_string() }
}
