//! Whose word about a trace counts: our own callers' or a stranger's.

use std::collections::HashMap;

use opentelemetry::{
    Context, KeyValue, TraceId,
    trace::{Link, SpanContext, SpanKind, TraceState},
};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    TRACING,
    context::{self, TRACEPARENT, XRAY_HEADER, from_traceparent, from_xray_header},
};

/// The share of traces to sample if Lambda's decision may be the client's: that of X-Ray's default rule, beyond its first
/// request of each second.
const RATE: f64 = 0.05;

/// The trace context of an invocation's input, by who sent it.
#[derive(Debug)]
pub(crate) enum Origin {
    /// One of our own callers sent it, if there is one: the invocation continues that trace.
    Caller(Option<SpanContext>),
    /// Anyone may have sent it: the invocation is only linked to it.
    Stranger(Claims),
}

/// What a stranger says about the trace of a request.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// The values of the headers, well-formed or not.
    values: Vec<String>,
    /// The spans that they name.
    links: Vec<SpanContext>,
}

/// The part of API Gateway's event that says who sent the request. It can be read even if no request can be made of the event.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    headers: HashMap<String, String>,
    #[serde(rename = "requestContext")]
    request_context: RequestContext,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RequestContext {
    authorizer: Option<Authorizer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Authorizer {
    /// The principal that signed the request. Only routes with the authorization `AWS_IAM` have it.
    iam: Option<Box<RawValue>>,
}

impl From<Option<SpanContext>> for Origin {
    fn from(caller: Option<SpanContext>) -> Self {
        Self::Caller(caller)
    }
}

impl Origin {
    /// The trace context of a request from API Gateway. A request that is signed (`AWS_IAM`) comes from one of our own services;
    /// everyone else is a stranger, with a token or without.
    pub(crate) fn of_request(event: &RawValue) -> Self {
        let Head { headers, request_context } = serde_json::from_str(event.get()).unwrap_or_default();
        let values = |wanted: &str| {
            let found = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let xray = values(XRAY_HEADER);
        if request_context.authorizer.is_some_and(|authorizer| authorizer.iam.is_some()) {
            return Self::Caller(xray.first().and_then(|value| from_xray_header(value)));
        }
        let traceparent = values(TRACEPARENT);
        let named = xray.iter().filter_map(|value| from_xray_header(value));
        let named = named.chain(traceparent.iter().filter_map(|value| from_traceparent(value)));
        let links = named.map(|span| without_state(&span)).collect();
        Self::Stranger(Claims { values: [xray, traceparent].concat(), links })
    }

    /// Sets the parent and the links of an invocation's span, which has not been entered yet. `carrier` is Lambda's trace context.
    pub(super) fn apply(self, span: &Span, carrier: Option<SpanContext>) {
        match self {
            Self::Caller(caller) => context::continue_from(span, caller, carrier),
            Self::Stranger(claims) if TRACING => claims.apply(span, carrier),
            Self::Stranger(_) => {}
        }
    }
}

impl Claims {
    /// Continues Lambda's trace, whose id and sampling Lambda and X-Ray chose, and links to the spans that the stranger named.
    ///
    /// With an HTTP API Lambda's trace is [not the client's](https://github.com/aws/aws-xray-sdk-java/issues/301), but no
    /// document promises that. If it is, the span begins a trace of its own, and neither the id nor the sampling is the
    /// client's.
    fn apply(self, span: &Span, carrier: Option<SpanContext>) {
        match carrier {
            Some(carrier) if self.mention(carrier.trace_id()) => {
                // Fails if there are no traces at all.
                drop(span.set_parent(Context::new().with_value(OwnTrace)));
                span.add_link(carrier);
            }
            carrier => context::continue_from(span, None, carrier),
        }
        for link in self.links {
            span.add_link(link);
        }
    }

    /// Whether the stranger knows this trace, in whatever form: Lambda may read a header that this code cannot.
    fn mention(&self, trace_id: TraceId) -> bool {
        let trace_id = trace_id.to_string();
        let (_, unique) = trace_id.split_at(8);
        self.values.iter().any(|value| value.to_ascii_lowercase().contains(unique))
    }
}

/// The span's ids alone: the rest of the header is any text that the stranger likes, and would be exported with the link.
fn without_state(span: &SpanContext) -> SpanContext {
    SpanContext::new(
        span.trace_id(),
        span.span_id(),
        span.trace_flags(),
        span.is_remote(),
        TraceState::default(),
    )
}

/// Marks the context of a span that begins a trace of its own.
struct OwnTrace;

/// Decides whether to sample a trace that begins in this process. Only an [`OwnTrace`] can be: all other traces begin at Lambda
/// or at a caller.
#[derive(Clone, Debug)]
pub(super) struct RootSampler;

impl ShouldSample for RootSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let own = parent.is_some_and(|context| context.get::<OwnTrace>().is_some());
        let sampler = if own { Sampler::TraceIdRatioBased(RATE) } else { Sampler::AlwaysOff };
        // Without the parent: the sampler looks in it for a tracing state only, and there is none.
        sampler.should_sample(None, trace_id, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{TraceContextExt, TracerProvider};
    use opentelemetry_aws::trace::XrayIdGenerator;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use serde_json::{Value, json, value::to_raw_value};
    use tracing::info_span;
    use tracing_subscriber::{Registry, layer::SubscriberExt};

    use super::{super::export::tests::Kept, *};

    const LAMBDAS: &str = "Root=1-67890abc-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled=1";
    const CLIENTS: &str =
        "Root=1-6a0f3b2d-aaaaaaaaaaaaaaaaaaaaaaaa;Parent=bbbbbbbbbbbbbbbb;Sampled=0;Any=thing";
    const CLIENTS_TRACEPARENT: &str = "00-6a0f3b2dcccccccccccccccccccccccc-dddddddddddddddd-01";

    fn jwt() -> Value {
        json!({"jwt": {"claims": {"sub": "someone"}, "scopes": null}})
    }

    fn iam() -> Value {
        json!({"iam": {"accessKey": "AKIA", "accountId": "1"}})
    }

    /// The headers of a request, and its authorizer.
    fn origin(headers: &Value, authorizer: &Value) -> Origin {
        let mut context = json!({"http": {"method": "GET"}});
        if !authorizer.is_null() {
            context["authorizer"] = authorizer.clone();
        }
        let event = json!({"version": "2.0", "headers": headers, "requestContext": context, "body": "{}"});
        Origin::of_request(&to_raw_value(&event).unwrap())
    }

    /// The trace context and the links of an invocation's span.
    struct Begun {
        context: SpanContext,
        parent: String,
        links: Vec<String>,
    }

    /// Begins the span of an invocation, as a function does.
    fn begin(origin: Origin, carrier: Option<&str>) -> Begun {
        let exporter = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_id_generator(XrayIdGenerator::default())
            .with_sampler(Sampler::ParentBased(Box::new(RootSampler)))
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let context = tracing::subscriber::with_default(Registry::default().with(layer), || {
            let span = info_span!("invocation");
            origin.apply(&span, carrier.and_then(from_xray_header));
            span.in_scope(|| Context::current().span().span_context().clone())
        });
        let exported = exporter.0.lock().unwrap().clone();
        assert_eq!(exported.len(), usize::from(context.is_sampled()));
        let exported = exported.first();
        Begun {
            context,
            parent: exported.map(|span| span.parent_span_id.to_string()).unwrap_or_default(),
            links: exported
                .iter()
                .flat_map(|span| &span.links.links)
                .map(|link| {
                    assert_eq!(link.span_context.trace_state().header(), "");
                    link.span_context.span_id().to_string()
                })
                .collect(),
        }
    }

    fn trace_id(header: &str) -> TraceId {
        from_xray_header(header).unwrap().trace_id()
    }

    #[test]
    fn on_a_public_route_lambda_chooses_the_trace_and_its_sampling_and_the_clients_is_a_link() {
        let chosen = CLIENTS.replace("Sampled=0", "Sampled=1");
        for authorizer in [Value::Null, jwt(), json!({"lambda": {"iam": {}}}), json!({"iam": null})] {
            for header in [CLIENTS, &chosen] {
                let headers = json!({"X-Amzn-Trace-Id": header, "traceparent": CLIENTS_TRACEPARENT});
                let begun = begin(origin(&headers, &authorizer), Some(LAMBDAS));
                assert_eq!(begun.context.trace_id(), trace_id(LAMBDAS), "{headers}, {authorizer}");
                assert_eq!(begun.parent, "53995c3f42cd8ad8");
                assert_eq!(begun.links, ["bbbbbbbbbbbbbbbb", "dddddddddddddddd"]);
                let unsampled = LAMBDAS.replace("Sampled=1", "Sampled=0");
                let begun = begin(origin(&headers, &authorizer), Some(&unsampled));
                assert_eq!(
                    (begun.context.trace_id(), begun.context.is_sampled()),
                    (trace_id(LAMBDAS), false)
                );
            }
        }
    }

    #[test]
    fn a_header_that_is_not_well_formed_is_not_linked() {
        let rubbish =
            ["", "rubbish", "Sampled=1", "Root=1-xyz-1;Parent=53995c3f42cd8ad8;Sampled=1", "\u{7f}é"];
        for header in rubbish {
            for name in ["x-amzn-trace-id", "traceparent"] {
                let begun = begin(origin(&json!({name: header}), &Value::Null), Some(LAMBDAS));
                assert_eq!((begun.context.trace_id(), begun.links), (trace_id(LAMBDAS), vec![]), "{header}");
            }
        }
    }

    #[test]
    fn a_trace_of_lambda_that_the_client_could_have_chosen_is_not_continued() {
        let (epoch, unique) = ("67890abc", "0123456789abcdef01234567");
        for headers in [
            json!({"x-amzn-trace-id": LAMBDAS}),
            json!({"x-amzn-trace-id": format!("Root=1-{epoch}-{unique}")}),
            json!({"x-amzn-trace-id": format!("rubbish;ROOT=1-{epoch}-{};Sampled=1,x", unique.to_uppercase())}),
            json!({"traceparent": format!("00-{epoch}{unique}-53995c3f42cd8ad8-01")}),
        ] {
            let attempts: Vec<Begun> =
                (0..400).map(|_| begin(origin(&headers, &jwt()), Some(LAMBDAS))).collect();
            assert!(attempts.iter().all(|begun| begun.context.is_valid()));
            assert!(attempts.iter().all(|begun| begun.context.trace_id() != trace_id(LAMBDAS)), "{headers}");
            // 20 of 400 are expected. Fewer than 1 or more than 60 are not seen in the life of a universe.
            let sampled: Vec<&Begun> = attempts.iter().filter(|begun| begun.context.is_sampled()).collect();
            assert!((1..60).contains(&sampled.len()), "{} of 400 are sampled", sampled.len());
            for begun in sampled {
                assert_eq!(begun.parent, "0000000000000000");
                assert_eq!(begun.links[0], "53995c3f42cd8ad8");
            }
        }
    }

    #[test]
    fn a_signed_request_continues_the_trace_of_its_caller_and_keeps_its_sampling() {
        let sampled = CLIENTS.replace("Sampled=0", "Sampled=1");
        let begun = begin(origin(&json!({"X-Amzn-Trace-Id": sampled}), &iam()), Some(LAMBDAS));
        assert_eq!(begun.context.trace_id(), trace_id(CLIENTS));
        assert_eq!(
            (begun.parent.as_str(), begun.links),
            ("bbbbbbbbbbbbbbbb", vec!["53995c3f42cd8ad8".to_owned()])
        );
        let begun = begin(origin(&json!({"x-amzn-trace-id": CLIENTS}), &iam()), Some(LAMBDAS));
        assert_eq!((begun.context.trace_id(), begun.context.is_sampled()), (trace_id(CLIENTS), false));
        // Lambda decides if the caller does not, and if the header cannot be read.
        let undecided = CLIENTS.replace(";Sampled=0", "");
        let begun = begin(origin(&json!({"x-amzn-trace-id": undecided}), &iam()), Some(LAMBDAS));
        assert_eq!((begun.context.trace_id(), begun.context.is_sampled()), (trace_id(CLIENTS), true));
        let begun = begin(origin(&json!({"x-amzn-trace-id": "rubbish"}), &iam()), Some(LAMBDAS));
        assert_eq!((begun.context.trace_id(), begun.context.is_sampled()), (trace_id(LAMBDAS), true));
    }

    #[test]
    fn without_any_context_nothing_is_sampled_and_an_event_that_cannot_be_read_is_a_strangers() {
        let begun = begin(origin(&json!({}), &Value::Null), None);
        assert!(begun.context.is_valid() && !begun.context.is_sampled());
        // An internal caller without a context is no stranger.
        assert!(!begin(Origin::from(None), None).context.is_sampled());
        let unreadable = json!({"headers": {"x-amzn-trace-id": 7}, "requestContext": {"authorizer": iam()}});
        let origin = Origin::of_request(&to_raw_value(&unreadable).unwrap());
        assert!(matches!(origin, Origin::Stranger(_)), "{origin:?}");
    }
}
