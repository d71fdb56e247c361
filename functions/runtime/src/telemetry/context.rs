//! The trace context of a piece of work, in the formats in which it is propagated: `X-Amzn-Trace-Id` between AWS services, W3C
//! `traceparent` in events and in the saga's input.

use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt, TraceFlags},
};
use opentelemetry_aws::trace::xray_propagator::{span_context_from_str, span_context_to_string};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::TRACING;

/// The header in which AWS services, and ours, propagate the trace context.
pub(crate) const XRAY_HEADER: &str = "x-amzn-trace-id";
/// The header, and the field of an event, with a W3C trace context.
pub(super) const TRACEPARENT: &str = "traceparent";

/// The trace context of a header `X-Amzn-Trace-Id`; `None` if it has none, or a trace without a span.
pub(crate) fn from_xray_header(header: &str) -> Option<SpanContext> {
    if !TRACING {
        return None;
    }
    span_context_from_str(header).filter(SpanContext::is_valid)
}

/// The trace context of a W3C `traceparent`.
pub(crate) fn from_traceparent(traceparent: &str) -> Option<SpanContext> {
    if !TRACING {
        return None;
    }
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

/// As a header `X-Amzn-Trace-Id`.
pub(super) fn as_xray_header(span: &SpanContext) -> Option<String> {
    span_context_to_string(span)
}

/// The current trace context.
pub(super) fn current() -> SpanContext {
    if TRACING { Context::current().span().span_context().clone() } else { SpanContext::NONE }
}

/// The current trace context, as a header `X-Amzn-Trace-Id`.
pub(crate) fn xray_header() -> Option<String> {
    as_xray_header(&current())
}

/// The current trace context, as a W3C `traceparent`: for events and for the saga.
pub fn traceparent() -> Option<String> {
    if !TRACING {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject(&mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Sets the parent of a span that has not been entered yet.
///
/// `origin` is the trace context of the input (an event's `traceparent`, a signed request's header); `carrier` is that of Lambda or
/// SQS. Within one trace the carrier is the nearer parent. If the traces differ, something on the way did not propagate the
/// header and the carrier started a trace of its own: then the span continues the origin's trace, with a link to the carrier's.
///
/// A span is exported if and only if its trace is sampled, which the trace context says. If the origin leaves it open
/// (`Sampled=?`), the carrier decides. If neither decides, nothing is exported.
pub(super) fn continue_from(span: &Span, origin: Option<SpanContext>, carrier: Option<SpanContext>) {
    if !TRACING {
        return;
    }
    let origin = origin.map(|origin| match &carrier {
        Some(carrier) if origin.trace_flags() == UNDECIDED => decided(&origin, carrier.trace_flags()),
        _ => origin,
    });
    let (parent, link) = match (origin, carrier) {
        (Some(origin), Some(carrier)) if origin.trace_id() == carrier.trace_id() => (Some(carrier), None),
        (Some(origin), carrier) => (Some(origin), carrier),
        (None, carrier) => (carrier, None),
    };
    if let Some(parent) = parent.filter(SpanContext::is_valid) {
        // Fails if there are no traces at all.
        drop(span.set_parent(Context::new().with_remote_span_context(parent)));
    }
    if let Some(link) = link {
        span.add_link(link);
    }
}

/// The flags for `Sampled=?`, and if there is no `Sampled`.
const UNDECIDED: TraceFlags = TraceFlags::new(2);

fn decided(place: &SpanContext, decision: TraceFlags) -> SpanContext {
    SpanContext::new(
        place.trace_id(),
        place.span_id(),
        decision,
        place.is_remote(),
        place.trace_state().clone(),
    )
}

/// The id of a span's trace, as X-Ray writes it: `1-<8 digits>-<24 digits>`.
pub(super) fn xray_trace_id(span: &Span) -> String {
    if !TRACING {
        return String::new();
    }
    let trace_id = span.context().span().span_context().trace_id().to_string();
    let (epoch, unique) = trace_id.split_at(8);
    format!("1-{epoch}-{unique}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Root=1-67890abc-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled=1";
    const TRACEPARENT: &str = "00-67890abc0123456789abcdef01234567-53995c3f42cd8ad8-01";

    #[test]
    fn both_formats_name_the_same_place_and_the_sampling_decision_is_kept() {
        let (by_header, by_traceparent) =
            (from_xray_header(HEADER).unwrap(), from_traceparent(TRACEPARENT).unwrap());
        assert_eq!(by_header.trace_id(), by_traceparent.trace_id());
        assert_eq!(by_header.span_id(), by_traceparent.span_id());
        assert!(by_header.is_sampled() && by_traceparent.is_sampled());
        assert_eq!(as_xray_header(&by_traceparent).unwrap(), HEADER);
        let unsampled = TRACEPARENT.replace("-01", "-00");
        assert_eq!(
            as_xray_header(&from_traceparent(&unsampled).unwrap()).unwrap(),
            HEADER.replace("Sampled=1", "Sampled=0")
        );
    }

    #[test]
    fn a_decision_that_is_left_open_can_be_made_by_another() {
        let undecided = HEADER.trim_end_matches(";Sampled=1");
        for header in [undecided.to_owned(), format!("{undecided};Sampled=?")] {
            let place = from_xray_header(&header).unwrap();
            assert_eq!(place.trace_flags(), UNDECIDED, "{header}");
            assert_eq!(as_xray_header(&decided(&place, TraceFlags::SAMPLED)).unwrap(), HEADER);
        }
        for header in [HEADER.to_owned(), HEADER.replace("Sampled=1", "Sampled=0")] {
            assert_ne!(from_xray_header(&header).unwrap().trace_flags(), UNDECIDED, "{header}");
        }
    }

    #[test]
    fn what_names_no_place_in_a_trace_is_none() {
        for header in [
            "",
            "rubbish",
            "Sampled=1",
            "Root=1-xyz-1;Parent=53995c3f42cd8ad8",
            "Root=1-67890abc-0123456789abcdef01234567",
        ] {
            assert_eq!(from_xray_header(header), None, "{header}");
        }
        for traceparent in
            ["", "rubbish", "00-é-1-01", "00-00000000000000000000000000000000-53995c3f42cd8ad8-01"]
        {
            assert_eq!(from_traceparent(traceparent), None, "{traceparent}");
        }
    }
}
