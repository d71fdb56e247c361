//! A span for each call of an AWS API, all its attempts included, and the call's place in the trace on its way to AWS.

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{
                BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
                FinalizerInterceptorContextRef,
            },
        },
        orchestrator::{HttpResponse, Metadata},
        retries::RequestAttempts,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use opentelemetry::trace::TraceContextExt;
use serde::Deserialize;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{EXPORTED, Kind, XRAY_HEADER, context::as_xray_header, fail};

/// Makes the spans of a client's calls.
///
/// The header is set before the SDK would: that would be the place of the whole function in its trace, not of this
/// call, and for `StartExecution` the header wins over the request's `traceHeader`. It is no part of the signature.
#[derive(Debug)]
pub(crate) struct AwsCalls;

/// The span of the call that is under way. Where the call is given up half-way the span ends with it.
#[derive(Debug)]
struct Call(Span);

impl Storable for Call {
    type Storer = StoreReplace<Self>;
}

impl Intercept for AwsCalls {
    fn name(&self) -> &'static str {
        "AwsCalls"
    }

    fn read_before_serialization(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (service, operation) = config
            .load::<Metadata>()
            .map(|metadata| (metadata.service().to_owned(), metadata.name().to_owned()))
            .unwrap_or_default();
        let span = info_span!(
            target: EXPORTED,
            "call",
            otel.name = format!("{service} {operation}"),
            otel.kind = Kind::Client.name(),
            rpc.system = "aws-api",
            rpc.service = service,
            rpc.method = operation,
        );
        config.interceptor_state().store_put(Call(span));
        Ok(())
    }

    fn modify_before_retry_loop(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let place = |call: &Call| as_xray_header(call.0.context().span().span_context());
        if let Some(header) = config.load::<Call>().and_then(place) {
            context.request_mut().headers_mut().insert(XRAY_HEADER, header);
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Call(span)) = config.load::<Call>() else { return Ok(()) };
        let attempts = config.load::<RequestAttempts>().map_or(1, RequestAttempts::attempts);
        span.set_attribute("aws.retries", i64::from(attempts.saturating_sub(1)));
        let status = context.response().map(|response| response.status().as_u16());
        if let Some(status) = status {
            span.set_attribute("http.response.status_code", i64::from(status));
        }
        if let Some(Err(error)) = context.output_or_error() {
            let reason = match context.response() {
                Some(response) => name_of(response).unwrap_or_else(|| response.status().to_string()),
                None if error.is_timeout_error() => "timeout".to_owned(),
                None => "no answer".to_owned(),
            };
            if ANSWERS.contains(&reason.as_str()) {
                span.set_attribute("outcome", reason);
            } else {
                fail(span, reason);
            }
        }
        Ok(())
    }
}

/// The errors that say how things stand, and that nothing is wrong: somebody else's write came first, what should be started
/// has been.
const ANSWERS: [&str; 3] =
    ["ConditionalCheckFailedException", "TransactionCanceledException", "ExecutionAlreadyExists"];

/// The public name of a service's error (AWS JSON protocol, `__type`), and nothing else of its answer, which could quote what
/// was sent.
fn name_of(response: &HttpResponse) -> Option<String> {
    #[derive(Deserialize)]
    struct Failure {
        __type: String,
    }
    let Failure { __type: name } = serde_json::from_slice(response.body().bytes()?).ok()?;
    let name = name.rsplit('#').next()?;
    name.chars().all(|letter| letter.is_ascii_alphanumeric()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    #[test]
    fn an_error_is_named_and_not_quoted() {
        let name =
            |body: &str| name_of(&HttpResponse::new(StatusCode::try_from(400).unwrap(), SdkBody::from(body)));
        let refused = r#"{"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "Item": {"name": "Ara"}}"#;
        assert_eq!(name(refused).as_deref(), Some("ConditionalCheckFailedException"));
        for rubbish in ["", "<html>", r#"{"__type": 7}"#, r#"{"__type": "ara@example.com is unknown"}"#] {
            assert_eq!(name(rubbish), None, "{rubbish}");
        }
    }
}
