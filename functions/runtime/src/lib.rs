//! The Lambda and AWS side of every function: a file in `src/bin/` connects what it needs from here with
//! the service's own code and hands over.
//!
//! | module | what it does |
//! |---|---|
//! | [`http`] | serves HTTP endpoints behind API Gateway |
//! | [`queue`] | serves a consumer: events from the bus through an SQS queue |
//! | [`task`] | serves a step of the order saga |
//! | [`schedule`] | serves a function that runs every so often |
//! | [`stream`] | serves a function that reads a table's stream |
//! | [`bus`] | puts events on the event bus |
//! | [`dead_letters`] | puts what cannot be handled into a dead-letter queue |
//! | [`aggregate`] | stores an aggregate and its event in one item |
//! | [`table`] | reads and writes a service's DynamoDB table |
//! | [`copies`] | a service's own copy of what another has told it by events |
//! | [`user_copies`] | a service's own copy of the users' names |
//! | [`users`] | asks the users service about a user |
//! | [`calls`] | calls other services: one client, two transports |
//! | [`directory`] | knows where the other services are |
//! | [`cloud_map`] | reads and changes the instances that AWS Cloud Map knows |
//! | [`identity_provider`] | reads and removes logins in the Cognito user pool (feature `identity-provider`) |
//! | [`mail`] | sends e-mail with SES (feature `mail`) |
//! | [`workflow`] | starts state machine executions and asks how they fare (feature `workflow`) |
//! | [`secrets`] | reads a secret (feature `secrets`) |
//! | [`aws`] | the AWS clients' configuration |
//! | [`environment`] | the settings that a template gives a function |
//! | [`telemetry`] | traces and log lines |
//! | [`metrics`] | numbers for CloudWatch |
//!
//! A function's `main` hands what connects and serves to [`run`]; each `serve` function ends only when Lambda ends the process.

pub mod aggregate;
pub mod aws;
pub mod bus;
pub mod calls;
pub mod cloud_map;
pub mod copies;
pub mod dead_letters;
pub mod directory;
pub mod environment;
#[cfg(debug_assertions)]
mod faults;
pub mod http;
#[cfg(feature = "identity-provider")]
pub mod identity_provider;
#[cfg(debug_assertions)]
mod local_authorizer;
#[cfg(feature = "mail")]
pub mod mail;
pub mod metrics;
pub mod queue;
pub mod schedule;
#[cfg(feature = "secrets")]
pub mod secrets;
pub mod stream;
pub mod table;
pub mod task;
pub mod telemetry;
pub mod user_copies;
pub mod users;
#[cfg(feature = "workflow")]
pub mod workflow;

use std::{env, process::ExitCode};

pub use lambda_runtime::Error;

/// Runs a function: what every `main` does. It ends when Lambda ends the process, or where the function could not start, for
/// want of a setting, say: then a log line has the cause.
pub fn run(function: impl Future<Output = Result<(), Error>>) -> ExitCode {
    telemetry::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Error::from).and_then(|runtime| runtime.block_on(function)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let function = env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
            tracing::error!(function, cause = http::error_chain(error.as_ref()), "could not start");
            ExitCode::FAILURE
        }
    }
}
