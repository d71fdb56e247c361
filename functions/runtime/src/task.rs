//! Serves a step of the order saga: a task of the state machine.
//!
//! A step succeeds, refuses (with a [`Refusal`]'s name, which the state machine knows), or fails and is retried. Steps must be
//! idempotent and right in any order, because a time-out does not tell whether the step took effect.

use std::{
    error, fmt,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures::FutureExt;
use kernel::saga::Refusal;
use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

#[cfg(debug_assertions)]
use crate::faults::Fault;
use crate::{
    http::{deadline, error_chain},
    metrics::{STEP_FAILURES, STEP_TIME},
    table,
    telemetry::{self, Kind, from_traceparent},
};

/// The error's public name if a retry may succeed.
const TRANSIENT: &str = "Transient";

/// Why a step did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// A retry cannot succeed.
    Refused(Refusal),
    /// A retry may succeed, perhaps after someone has fixed the cause.
    Transient(Box<dyn error::Error + Send + Sync>),
}

impl Failure {
    /// A failure that may succeed on retry.
    pub fn transient(cause: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self::Transient(cause.into())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.name(),
            Self::Transient(_) => TRANSIENT,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => formatter.write_str(refusal.name()),
            Self::Transient(cause) => formatter.write_str(&error_chain(cause.as_ref())),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<table::Error> for Failure {
    fn from(error: table::Error) -> Self {
        Self::transient(error)
    }
}

/// The output of a step that returns nothing: `{}`.
#[derive(Debug, Serialize)]
pub struct Done {}

/// One invocation of a step.
#[derive(Debug)]
pub struct Task<I> {
    /// The input from the state machine.
    pub input: I,
    deadline: Instant,
}

impl<I> Task<I> {
    /// How long the function still has.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Runs a step at every invocation until Lambda ends the process, in the trace of the input's `traceparent`.
pub async fn serve<S, I, O, H>(state: S, handler: H) -> Result<(), Error>
where
    I: DeserializeOwned,
    O: Serialize,
    H: AsyncFn(&S, &Task<I>) -> Result<O, Failure>,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let LambdaEvent { payload, context } = event;
        let deadline = deadline(&context);
        let order_id = payload["order_id"].as_str().unwrap_or_default().to_owned();
        let origin = payload["traceparent"].as_str().and_then(from_traceparent);
        let step = context.env_config.function_name.as_str();
        telemetry::invocation(&context, Kind::Server, step, origin, async |unit| {
            let start = Instant::now();
            unit.annotate("order_id", order_id.clone());
            // Boxed, so that the function's future does not contain the handler's.
            let work = async || perform(&state, payload.clone(), deadline, &handler).boxed_local().await;
            #[cfg(not(debug_assertions))]
            let result = work().await;
            #[cfg(debug_assertions)]
            let result = Fault::next(step, &order_id).around(work).await;
            let time = start.elapsed();
            STEP_TIME.took_of(step.to_owned(), time);
            let milliseconds = time.as_secs_f64() * 1e3;
            match &result {
                Ok(_) => {
                    unit.annotate("outcome", "done");
                    tracing::info!(order_id, milliseconds, "done");
                }
                Err(Failure::Refused(refusal)) => {
                    unit.refuse(refusal.name());
                    tracing::info!(order_id, milliseconds, refusal = refusal.name(), "refused");
                }
                Err(failure) => {
                    unit.fail(failure.name());
                    STEP_FAILURES.one_of(step.to_owned());
                    tracing::warn!(order_id, milliseconds, cause = %failure, "failed");
                }
            }
            result.map_err(|failure| Diagnostic {
                error_type: failure.name().to_owned(),
                // The execution's history keeps this: the cause, without personal data.
                error_message: failure.to_string(),
            })
        })
        .await
    }))
    .await
}

async fn perform<S, I, O, H>(
    state: &S,
    payload: Value,
    deadline: Instant,
    handler: &H,
) -> Result<Value, Failure>
where
    I: DeserializeOwned,
    O: Serialize,
    H: AsyncFn(&S, &Task<I>) -> Result<O, Failure>,
{
    let input = serde_json::from_value(payload).map_err(Failure::transient)?;
    let task = Task { input, deadline };
    let output = AssertUnwindSafe(handler(state, &task)).catch_unwind().await;
    let output = output.unwrap_or_else(|_| Err(Failure::transient("the step panicked")))?;
    serde_json::to_value(output).map_err(Failure::transient)
}
