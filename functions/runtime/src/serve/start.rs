//! Connects a function and passes it Lambda's events.

use std::env;

use futures::FutureExt;
use lambda_runtime::{Context, Diagnostic, Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

use super::{Function, UNAVAILABLE, http};
use crate::{
    deadline::Deadline,
    error::chain,
    telemetry::{self, Kind},
};

/// Connects the function and handles events until Lambda ends the process.
///
/// A function that cannot start, for example because a secret cannot be read, tries again with every invocation, and answers those
/// that meet it in that state. If it ended the process instead, API Gateway would word the answer, and nothing would count it.
pub(crate) async fn serve<F: Function>(connect: impl AsyncFn() -> Result<F, Error>) -> Result<(), Error> {
    let function = OnceCell::new();
    // Boxed, here and below, so that the future that the compiler has to lay out is not that of the whole function.
    let connected = async || function.get_or_try_init(|| connect().boxed_local()).await;
    if let Err(error) = connected().await {
        let function = env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
        tracing::warn!(
            function,
            cause = chain(error.as_ref()),
            "not started yet; the next invocation tries again"
        );
    }
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        let LambdaEvent { payload, context } = event;
        let deadline = Deadline::of(&context).reserving(http::RESERVED_TIME);
        let error = match deadline.bound(connected()).await {
            Ok(Ok(function)) => return function.handle(&payload, &context).boxed_local().await,
            Ok(Err(error)) => error,
            Err(timed_out) => timed_out.into(),
        };
        not_started(&payload, &context, error).await
    }))
    .await
}

/// The answer of a function that cannot start: a problem document for a request, an error that is retried for anything else.
async fn not_started(event: &RawValue, context: &Context, error: Error) -> Result<Box<RawValue>, Diagnostic> {
    if http::is_request(event) {
        return super::answer(&http::not_started(event, context, error).await);
    }
    let function = context.env_config.function_name.as_str();
    telemetry::invocation(context, Kind::Server, function, None, async |unit| {
        unit.fail(UNAVAILABLE);
        tracing::error!(cause = chain(error.as_ref()), "could not start");
        Err(Diagnostic { error_type: UNAVAILABLE.to_owned(), error_message: chain(error.as_ref()) })
    })
    .await
}
