//! Serves a step of the order saga: a task of the state machine.
//!
//! A step succeeds, refuses (with a [`Refusal`]'s name, which the state machine knows), or fails and is retried. Steps must be
//! idempotent and correct in any order, because after a time-out it is unknown whether the step took effect.

use std::{
    error,
    marker::PhantomData,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures::FutureExt;
use kernel::saga::Refusal;
use lambda_runtime::{Context, Diagnostic};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use thiserror::Error as ThisError;

#[cfg(debug_assertions)]
use super::faults::Fault;
use super::{Function, RETRYABLE, UNAVAILABLE};
use crate::{
    deadline::Deadline,
    error::{chain, read_value},
    table,
    telemetry::{
        self, Kind, from_traceparent,
        metrics::{STEP_FAILURES, STEP_TIME},
    },
};

/// The part of an invocation's time that is kept for its answer.
const RESERVED_TIME: Duration = Duration::from_secs(1);

/// Why a step did not succeed.
#[derive(Debug, ThisError)]
pub enum StepError {
    /// A retry cannot succeed.
    #[error("{}", .0.name())]
    Refused(Refusal),
    /// A dependency does not answer or throttles: the state machine outlasts that.
    #[error("{}", chain(.0.as_ref()))]
    Unavailable(Box<dyn error::Error + Send + Sync>),
    /// A retry may succeed, perhaps after someone has fixed the cause.
    #[error("{}", chain(.0.as_ref()))]
    Retryable(Box<dyn error::Error + Send + Sync>),
}

impl StepError {
    /// A dependency that does not answer or throttles.
    pub fn unavailable(cause: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// An error after which a retry may succeed.
    pub fn retryable(cause: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self::Retryable(cause.into())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.name(),
            Self::Unavailable(_) => UNAVAILABLE,
            Self::Retryable(_) => RETRYABLE,
        }
    }
}

impl From<Refusal> for StepError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<table::Error> for StepError {
    fn from(error: table::Error) -> Self {
        match error {
            table::Error::Unavailable(_) => Self::unavailable(error),
            table::Error::Broken(_) => Self::retryable(error),
        }
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
    /// The time by which the invocation must be done.
    pub deadline: Deadline,
}

/// A function that runs a step.
struct Step<S, H, I, O> {
    state: S,
    handler: H,
    types: PhantomData<fn(I) -> O>,
}

/// Runs a step at every invocation, in the trace of the input's `traceparent`, and ends it before Lambda does.
pub fn serve<S, I, O, H>(state: S, handler: H) -> impl Function
where
    I: DeserializeOwned,
    O: Serialize,
    H: AsyncFn(&S, &Task<I>) -> Result<O, StepError>,
{
    Step { state, handler, types: PhantomData }
}

impl<S, I, O, H> Function for Step<S, H, I, O>
where
    I: DeserializeOwned,
    O: Serialize,
    H: AsyncFn(&S, &Task<I>) -> Result<O, StepError>,
{
    async fn handle(&self, event: &RawValue, context: &Context) -> Result<Box<RawValue>, Diagnostic> {
        let deadline = Deadline::of(context).reserving(RESERVED_TIME);
        // An input that cannot be read at all fails in `perform`.
        let payload: Value = serde_json::from_str(event.get()).unwrap_or_default();
        let order_id = payload["order_id"].as_str().unwrap_or_default().to_owned();
        let origin = payload["traceparent"].as_str().and_then(from_traceparent);
        let step = context.env_config.function_name.as_str();
        telemetry::invocation(context, Kind::Server, step, origin, async |unit| {
            let start = Instant::now();
            unit.annotate("order_id", order_id.clone());
            // Boxed, so that the function's future does not contain the handler's.
            let work = async || self.perform(payload.clone(), deadline).boxed_local().await;
            #[cfg(not(debug_assertions))]
            let result = work().await;
            #[cfg(debug_assertions)]
            let result = Fault::next(step, &order_id).around(work, StepError::retryable).await;
            let time = start.elapsed();
            STEP_TIME.record_for(step.to_owned(), time);
            let milliseconds = time.as_secs_f64() * 1e3;
            match &result {
                Ok(_) => {
                    unit.annotate("outcome", "done");
                    tracing::info!(order_id, milliseconds, "done");
                }
                Err(StepError::Refused(refusal)) => {
                    unit.refuse(refusal.name());
                    tracing::info!(order_id, milliseconds, refusal = refusal.name(), "refused");
                }
                Err(error) => {
                    unit.fail(error.name());
                    STEP_FAILURES.increment_for(step.to_owned());
                    tracing::warn!(order_id, milliseconds, cause = %error, "failed");
                }
            }
            result.map_err(|error| Diagnostic {
                error_type: error.name().to_owned(),
                // The execution's history keeps this: the cause, without personal data.
                error_message: error.to_string(),
            })
        })
        .await
        .and_then(|output| super::answer(&output))
    }
}

impl<S, I, O, H> Step<S, H, I, O>
where
    I: DeserializeOwned,
    O: Serialize,
    H: AsyncFn(&S, &Task<I>) -> Result<O, StepError>,
{
    async fn perform(&self, payload: Value, deadline: Deadline) -> Result<Value, StepError> {
        let input = read_value(payload).map_err(StepError::retryable)?;
        let task = Task { input, deadline };
        let run = AssertUnwindSafe((self.handler)(&self.state, &task)).catch_unwind();
        let output = deadline.bound(run).await.map_err(StepError::unavailable)?;
        let output = output.unwrap_or_else(|_| Err(StepError::retryable("the step panicked")))?;
        serde_json::to_value(output).map_err(StepError::retryable)
    }
}
