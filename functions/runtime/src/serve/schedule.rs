//! Serves a function that runs on a schedule and ignores its input.

use std::time::Duration;

use futures::FutureExt;
use lambda_runtime::{Context, Diagnostic, Error};
use serde_json::value::RawValue;

use super::Function;
use crate::{
    deadline::Deadline,
    error::chain,
    telemetry::{self, Kind},
};

/// The part of an invocation's time that is kept for its log line.
const RESERVED_TIME: Duration = Duration::from_secs(1);

/// A function that runs on a schedule.
#[derive(Debug)]
struct Job<S, H> {
    state: S,
    handler: H,
}

/// Runs `handler` at every invocation, with its deadline, and ends it then. A failed run counts in Lambda's metric `Errors`.
pub fn serve<S, H>(state: S, handler: H) -> impl Function
where
    H: AsyncFn(&S, Deadline) -> Result<(), Error>,
{
    Job { state, handler }
}

impl<S, H> Function for Job<S, H>
where
    H: AsyncFn(&S, Deadline) -> Result<(), Error>,
{
    async fn handle(&self, _: &RawValue, context: &Context) -> Result<Box<RawValue>, Diagnostic> {
        let deadline = Deadline::of(context).reserving(RESERVED_TIME);
        telemetry::invocation(context, Kind::Server, "schedule", None, async |unit| {
            // Boxed, so that the function's future does not contain the handler's.
            let run = (self.handler)(&self.state, deadline).boxed_local();
            let result = deadline.bound(run).await.unwrap_or_else(|timed_out| Err(timed_out.into()));
            match &result {
                Ok(()) => tracing::info!("done"),
                Err(error) => {
                    unit.fail("Failed");
                    tracing::error!(cause = chain(error.as_ref()), "failed");
                }
            }
            result.map_err(|error| super::failed(&error))
        })
        .await?;
        super::answer(&())
    }
}
