//! Traces, log lines and metrics.
//!
//! | module | what it holds |
//! |---|---|
//! | `context` | the trace context of a piece of work, in the formats in which it is propagated |
//! | `origin` | whose trace an invocation continues: our own callers', but not a stranger's |
//! | `export` | finished spans on their way to X-Ray |
//! | `aws_calls` | a span for each call of an AWS API |
//! | `logs` | log lines: one JSON object per line |
//! | [`metrics`] | numbers for CloudWatch, and those that every function writes |
//!
//! There are two kinds of `tracing` spans, which differ in their target. An `EXPORTED` span becomes a span in X-Ray and is not
//! in the log. A `LOGGED` span adds its fields to each log line inside it and is not exported. So attributes for X-Ray do not
//! lengthen log lines, and a log line has all its fields at the top level.
//!
//! A `Unit` of work (an invocation, a message of a batch) has one of each. Its exported span is annotated with ids, so that it
//! can be found, and with no personal data.
//!
//! # What it costs
//! Each span is sent when it ends, in a datagram to the daemon beside the function. Nothing waits for an answer, and nothing is
//! left to send when Lambda freezes the function after its answer. `make bench` measures the cost.

mod aws_calls;
mod context;
mod export;
mod logs;
pub mod metrics;
mod origin;

use std::{
    borrow::Cow,
    fmt::Display,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
};

use futures::FutureExt;
use lambda_runtime::Context;
use opentelemetry::{
    Key, KeyValue, Value,
    trace::{SpanContext, Status, TraceContextExt},
};
use tracing::{Instrument, Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, Registry, filter::filter_fn, layer::SubscriberExt};

use crate::background;

pub use self::context::traceparent;
pub(crate) use self::{
    aws_calls::AwsCalls,
    context::{XRAY_HEADER, from_traceparent, from_xray_header, xray_header},
    origin::Origin,
};

/// The target of spans for X-Ray.
pub(crate) const EXPORTED: &str = "trace";
/// The target of spans whose fields are added to log lines.
const LOGGED: &str = "log";

/// Whether there are traces at all: `make bench` compares with a function that is compiled without.
pub(crate) const TRACING: bool = !cfg!(feature = "without-tracing");

tokio::task_local! {
    /// The span of the current unit of work, whose fields are added to each of its log lines.
    static LOGGED_SPAN: Span;
}

/// Starts logs, traces and metrics.
pub(crate) fn start() {
    let traces = TRACING.then(|| {
        tracing_opentelemetry::layer()
            .with_tracer(export::tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(
                filter_fn(|metadata| metadata.is_span() && metadata.target() == EXPORTED)
                    .with_max_level_hint(tracing::Level::INFO),
            )
    });
    let subscriber = Registry::default().with(traces).with(logs::layer());
    // Fails only if a subscriber was set before, which then stays.
    drop(tracing::subscriber::set_global_default(subscriber));
    logs::log_panics();
    metrics::start();
}

/// The kind of a span (OpenTelemetry's `SpanKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Answers a request.
    Server,
    /// Sends a request.
    Client,
    /// Sends a message.
    Producer,
    /// Handles a message.
    Consumer,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// Whether the next invocation is the first.
static FIRST: AtomicBool = AtomicBool::new(true);

/// Runs the work of one invocation and writes its metrics, whether it succeeds or not. `origin` is the trace context of the
/// input, if it has one.
pub(crate) async fn invocation<T>(
    context: &Context,
    kind: Kind,
    name: &str,
    origin: impl Into<Origin>,
    work: impl AsyncFnOnce(&Unit) -> T,
) -> T {
    let unit = Unit::invocation(context, kind, name, origin.into());
    let work = unit.run(background::ending_with(work(&unit)));
    let answer = AssertUnwindSafe(work).catch_unwind().await;
    if answer.is_err() {
        unit.fail("Panicked");
    }
    unit.flush_metrics(context);
    answer.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs work that no invocation waits for. Its log lines belong to the unit of work that started it. Its calls are in no trace,
/// because they can end after it.
pub(crate) fn beside<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    work.instrument(LOGGED_SPAN.try_with(Span::clone).unwrap_or_else(|_| Span::none()))
}

/// A unit of work with a span of its own: an invocation, or a message or record of a batch.
#[derive(Debug)]
pub(crate) struct Unit {
    exported: Span,
    logged: Span,
}

impl Unit {
    fn invocation(context: &Context, kind: Kind, name: &str, origin: Origin) -> Self {
        let carrier = context.xray_trace_id.as_deref().and_then(from_xray_header);
        let (function, request_id) = (context.env_config.function_name.as_str(), context.request_id.as_str());
        let exported = info_span!(
            target: EXPORTED,
            parent: None,
            "invocation",
            otel.name = name,
            otel.kind = kind.name(),
            faas.invocation_id = request_id,
            faas.coldstart = FIRST.swap(false, Ordering::Relaxed),
        );
        origin.apply(&exported, carrier);
        let trace_id = context::xray_trace_id(&exported);
        let logged =
            info_span!(target: LOGGED, "invocation", function, request_id, trace_id, subject = Empty);
        Self { exported, logged }
    }

    /// The work on one event of a batch, as part of the current invocation: in the event's own trace, with a link to the
    /// invocation, as X-Ray models a batch. An event without a trace context is in the invocation's trace.
    pub(crate) fn of_batch(
        kind: Kind,
        name: &str,
        origin: Option<SpanContext>,
        carrier: Option<SpanContext>,
    ) -> Self {
        let invocation = context::current();
        let exported = info_span!(
            target: EXPORTED,
            parent: None,
            "event",
            otel.name = name,
            otel.kind = kind.name(),
        );
        if origin.is_some() || carrier.is_some() {
            context::continue_from(&exported, origin, carrier);
            exported.add_link(invocation);
        } else {
            context::continue_from(&exported, Some(invocation), None);
        }
        let trace_id = context::xray_trace_id(&exported);
        let logged = info_span!(target: LOGGED, "event", trace_id, event_id = Empty, event_type = Empty, subject = Empty);
        Self { exported, logged }
    }

    /// Records the event that the work is about, once it has been read.
    pub(crate) fn about(
        &self,
        event_id: impl Display,
        event_type: &str,
        subject_name: &'static str,
        subject: impl Display,
    ) {
        let (event_id, subject) = (event_id.to_string(), subject.to_string());
        self.logged
            .record("event_id", &event_id)
            .record("event_type", event_type)
            .record("subject", &subject);
        self.annotate("event_id", event_id);
        self.annotate(subject_name, subject);
    }

    /// Adds the id of the aggregate that the work is about to each log line.
    pub(crate) fn subject(&self, id: &str) {
        self.logged.record("subject", id);
    }

    /// Writes the metrics so far.
    pub(crate) fn flush_metrics(&self, context: &Context) {
        metrics::flush(&context.request_id, context::xray_trace_id(&self.exported));
    }

    /// Runs the work inside the unit's spans.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let work = work.instrument(self.logged.clone()).instrument(self.exported.clone());
        LOGGED_SPAN.scope(self.logged.clone(), work).await
    }

    /// Calls a function inside the unit's spans.
    pub(crate) fn in_scope<T>(&self, call: impl FnOnce() -> T) -> T {
        self.exported.in_scope(|| self.logged.in_scope(call))
    }

    /// Adds an attribute to the exported span.
    pub(crate) fn annotate(&self, key: impl Into<Key>, value: impl Into<Value>) {
        self.exported.set_attribute(key, value);
    }

    /// Marks the exported span as failed. `reason` is a public name, never a text that could quote data.
    pub(crate) fn fail(&self, reason: impl Into<Cow<'static, str>>) {
        fail(&self.exported, reason);
    }

    /// Marks the exported span as refused, for a business reason and not because of a fault.
    pub(crate) fn refuse(&self, reason: &'static str) {
        self.annotate("http.response.status_code", REFUSED);
        self.fail(reason);
    }

    /// The unit's trace context, for the work that follows from it.
    pub(crate) fn xray_header(&self) -> Option<String> {
        context::as_xray_header(self.exported.context().span().span_context())
    }
}

/// The span of an event's publication by a relay, in the event's own trace.
#[derive(Debug)]
pub struct Publication(Unit);

impl Publication {
    /// Begins it. It ends when it is dropped.
    pub fn begin(event_id: &str, event_type: &str, subject: &str, traceparent: Option<&str>) -> Self {
        let origin = traceparent.and_then(from_traceparent);
        let unit = Unit::of_batch(Kind::Producer, &format!("publish {event_type}"), origin, None);
        unit.about(event_id, event_type, "subject", subject);
        Self(unit)
    }

    /// Its trace context, for the consumers of the event, as a header `X-Amzn-Trace-Id`.
    pub fn trace_header(&self) -> Option<String> {
        self.0.xray_header()
    }

    /// Calls a function whose log lines are about it.
    pub fn in_scope(&self, call: impl FnOnce()) {
        self.0.in_scope(call);
    }

    /// Records that the bus did not accept the event this time.
    pub fn failed(&self) {
        self.0.fail("Refused");
    }
}

/// X-Ray distinguishes an error, which is the caller's, from a fault, which is ours, only by the HTTP status
/// (<https://github.com/open-telemetry/opentelemetry-collector-contrib/blob/main/exporter/awsxrayexporter/internal/translator/cause.go>):
/// a refusal without HTTP gets the status that a client would have got.
const REFUSED: i64 = 409;

fn fail(span: &Span, reason: impl Into<Cow<'static, str>>) {
    let reason = reason.into();
    span.set_attribute("error.type", reason.to_string());
    span.set_status(Status::error(reason));
}

/// Annotates the current exported span with an id, by which its trace can be found. Ids only, because a trace must not have
/// personal data.
pub fn annotate(key: &'static str, id: impl Display) {
    let context = opentelemetry::Context::current();
    let span = context.span();
    if span.is_recording() {
        span.set_attribute(KeyValue::new(key, id.to_string()));
    }
}

/// Runs the part of a batch that belongs to another trace, in that trace. An error as its result marks the span as failed.
pub async fn continuing<T, E>(
    name: &str,
    traceparent: Option<&str>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let unit = Unit::of_batch(Kind::Consumer, name, traceparent.and_then(from_traceparent), None);
    let result = unit.run(work).await;
    if result.is_err() {
        unit.fail("Failed");
    }
    result
}

/// Runs a piece of work in a span of its own, to show how long it takes. `outcome` returns the public name of the failure, if
/// there was one.
pub async fn in_span<T>(
    name: &str,
    outcome: impl FnOnce(&T) -> Option<String>,
    work: impl Future<Output = T>,
) -> T {
    let span = info_span!(target: EXPORTED, "work", otel.name = name, otel.kind = Kind::Client.name());
    let result = work.instrument(span.clone()).await;
    if let Some(reason) = outcome(&result) {
        fail(&span, reason);
    }
    result
}
