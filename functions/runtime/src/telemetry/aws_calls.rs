//! A span for each call of an AWS API, all attempts included, and the propagation of its trace context to AWS.

use std::sync::atomic::{AtomicBool, Ordering};

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

/// Creates the spans of a client's calls.
///
/// It sets the trace header before the SDK does, which would send the function's trace context and not the call's. For
/// `StartExecution` the header overrides the request's `traceHeader`. The header is not signed.
#[derive(Debug)]
pub(crate) struct AwsCalls;

/// The span of the current call.
#[derive(Debug)]
struct Call {
    span: Span,
    ended: AtomicBool,
}

impl Storable for Call {
    type Storer = StoreReplace<Self>;
}

/// A cancelled call ends here.
impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended.load(Ordering::Relaxed) {
            fail(&self.span, "GivenUp");
        }
    }
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
        config.interceptor_state().store_put(Call { span, ended: AtomicBool::new(false) });
        Ok(())
    }

    fn modify_before_retry_loop(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let place = |call: &Call| as_xray_header(call.span.context().span().span_context());
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
        let Some(Call { span, ended }) = config.load::<Call>() else { return Ok(()) };
        ended.store(true, Ordering::Relaxed);
        let attempts = config.load::<RequestAttempts>().map_or(1, RequestAttempts::attempts);
        span.set_attribute("aws.retries", i64::from(attempts.saturating_sub(1)));
        let status = context.response().map(|response| response.status().as_u16());
        if let Some(status) = status {
            span.set_attribute("http.response.status_code", i64::from(status));
        }
        if let Some(Err(error)) = context.output_or_error() {
            let reason = match context.response() {
                Some(response) => name_of(response).unwrap_or_else(|| response.status().to_string()),
                None if error.is_timeout_error() => "Timeout".to_owned(),
                None => "NoAnswer".to_owned(),
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

/// The errors that are no faults: another write came first, or the execution was started before.
const ANSWERS: [&str; 2] = [CONDITION_FAILED, "ExecutionAlreadyExists"];
const CONDITION_FAILED: &str = "ConditionalCheckFailedException";

/// The public name of a service's error, and nothing else of its answer, which could quote the request. It is in the header
/// `x-amzn-errortype` (REST) or in the field `__type` (JSON)
/// (<https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization>). For a cancelled
/// transaction it is the first reason other than a failed condition.
fn name_of(response: &HttpResponse) -> Option<String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Failure {
        __type: String,
        #[serde(rename = "CancellationReasons")]
        reasons: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(rename = "Code")]
        code: String,
    }
    let body = response.body().bytes().unwrap_or_default();
    let failure: Failure = serde_json::from_slice(body).unwrap_or_default();
    let told = response.headers().get("x-amzn-errortype").unwrap_or(&failure.__type);
    // `…#Name` in the one, `Name:http://…` in the other.
    let name = told.rsplit('#').next()?.split(':').next()?;
    let reasons = failure.reasons.iter().map(|reason| reason.code.as_str()).filter(|code| *code != "None");
    let name = match name {
        "TransactionCanceledException" => {
            let mut others = reasons.clone().filter(|code| *code != "ConditionalCheckFailed");
            others.next().unwrap_or(if reasons.count() > 0 { CONDITION_FAILED } else { name })
        }
        other => other,
    };
    let is_name = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric());
    is_name.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn refusal(body: &str) -> HttpResponse {
        HttpResponse::new(StatusCode::try_from(400).unwrap(), SdkBody::from(body))
    }

    #[test]
    fn a_transaction_is_named_by_what_kept_it() {
        let name = |codes: &[&str]| {
            let reasons: Vec<_> = codes.iter().map(|code| serde_json::json!({"Code": code})).collect();
            let body = serde_json::json!({"__type": "…#TransactionCanceledException", "CancellationReasons": reasons});
            name_of(&refusal(&body.to_string())).unwrap()
        };
        assert_eq!(name(&["None", "ConditionalCheckFailed"]), CONDITION_FAILED);
        assert_eq!(name(&["ConditionalCheckFailed", "ThrottlingError"]), "ThrottlingError");
        assert_eq!(name(&["TransactionConflict", "None"]), "TransactionConflict");
        assert_eq!(name(&[]), "TransactionCanceledException");
    }

    #[test]
    fn an_error_that_a_header_names_is_named_by_that() {
        for told in
            ["MessageRejected", "MessageRejected:http://internal.amazon.com/coral/com.amazonaws.sesv2/"]
        {
            let mut response = refusal(r#"{"message": "not verified: ara@example.com"}"#);
            response.headers_mut().insert("x-amzn-errortype", told);
            assert_eq!(name_of(&response).as_deref(), Some("MessageRejected"), "{told}");
        }
    }

    #[test]
    fn an_error_is_named_and_not_quoted() {
        let name = |body: &str| name_of(&refusal(body));
        let refused = r#"{"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "Item": {"name": "Ara"}}"#;
        assert_eq!(name(refused).as_deref(), Some("ConditionalCheckFailedException"));
        for rubbish in ["", "<html>", r#"{"__type": 7}"#, r#"{"__type": "ara@example.com is unknown"}"#] {
            assert_eq!(name(rubbish), None, "{rubbish}");
        }
    }
}
