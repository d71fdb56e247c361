//! The Lambda and AWS side of every function: a file in `src/bin/` connects what it needs from here with
//! the service's own code and hands over.
//!
//! | module | what it is for |
//! |---|---|
//! | [`serve`] | Lambda's invocations: HTTP endpoints, consumers, streams, steps of a saga, schedules |
//! | [`table`] | a service's DynamoDB table: items, aggregates with their events, copies of other services' data |
//! | [`aws`] | the other AWS services: event bus, queues, Cloud Map, user pool, mail, state machine, secrets |
//! | [`services`] | the other services of the system: finding and calling them |
//! | [`telemetry`] | the operator: traces, log lines, metrics |
//! | [`users`] | the users service: a client, and copies of users |
//! | `background` | work beside an invocation, which ends with it |
//! | [`environment`] | the settings that a template gives a function |
//! | [`deadline`] | the time by which work must be done |
//! | [`error`] | how an error is logged |
//! | [`retry`] | retries and their pauses |
//!
//! A function's `main` passes to [`run`] what connects it; serving ends when Lambda ends the process.

pub mod aws;
mod background;
pub mod deadline;
pub mod environment;
pub mod error;
pub mod retry;
pub mod serve;
pub mod services;
pub mod table;
pub mod telemetry;
pub mod users;

use std::{env, process::ExitCode};

pub use lambda_runtime::Error;

use crate::{error::chain, serve::Function};

/// Runs a function; every `main` calls it. `connect` makes it, from its settings and the services that it uses. If that fails, it is
/// tried again with each invocation.
pub fn run<F: Function>(connect: impl AsyncFn() -> Result<F, Error>) -> ExitCode {
    telemetry::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Error::from).and_then(|runtime| runtime.block_on(serve::serve(connect))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let function = env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
            tracing::error!(function, cause = chain(error.as_ref()), "stopped");
            ExitCode::FAILURE
        }
    }
}
