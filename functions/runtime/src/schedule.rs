//! Serves a function that runs on a schedule and ignores its input.

use std::time::{Duration, Instant};

use futures::FutureExt;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

use crate::{
    http::{deadline, error_chain},
    telemetry::{self, Kind},
};

/// One run.
#[derive(Debug)]
pub struct Run {
    deadline: Instant,
}

impl Run {
    /// How long the function still has.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Runs `handler` at every invocation until Lambda ends the process. A failed run counts in Lambda's metric `Errors`.
pub async fn serve<S, H>(state: S, handler: H) -> Result<(), Error>
where
    H: AsyncFn(&S, &Run) -> Result<(), Error>,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let run = Run { deadline: deadline(&event.context) };
        telemetry::invocation(&event.context, Kind::Server, "schedule", None, async |unit| {
            // Boxed, so that the function's future does not contain the handler's.
            let result = handler(&state, &run).boxed_local().await;
            match &result {
                Ok(()) => tracing::info!("ran"),
                Err(error) => {
                    unit.fail("Failed");
                    tracing::error!(cause = error_chain(error.as_ref()), "failed");
                }
            }
            result
        })
        .await
    }))
    .await
}
