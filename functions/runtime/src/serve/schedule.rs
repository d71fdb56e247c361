//! Serves a function that runs on a schedule and ignores its input.

use futures::FutureExt;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

use crate::{
    deadline::Deadline,
    error::chain,
    telemetry::{self, Kind},
};

/// Runs `handler` at every invocation, with its deadline, until Lambda ends the process. A failed run counts in Lambda's metric `Errors`.
pub async fn serve<S, H>(state: S, handler: H) -> Result<(), Error>
where
    H: AsyncFn(&S, Deadline) -> Result<(), Error>,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let deadline = Deadline::of(&event.context);
        telemetry::invocation(&event.context, Kind::Server, "schedule", None, async |unit| {
            // Boxed, so that the function's future does not contain the handler's.
            let result = handler(&state, deadline).boxed_local().await;
            match &result {
                Ok(()) => tracing::info!("done"),
                Err(error) => {
                    unit.fail("Failed");
                    tracing::error!(cause = chain(error.as_ref()), "failed");
                }
            }
            result
        })
        .await
    }))
    .await
}
