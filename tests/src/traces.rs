//! Reads traces from the receiver that the local cloud runs in place of the X-Ray daemon.

use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{Answer, System};

/// Maximum difference between two clocks of one process, in microseconds.
const SAME_MOMENT: f64 = 100.0;

/// A place in a trace: the span of a request that a test sends, or of the function that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The trace, 32 hexadecimal digits.
    pub trace_id: String,
    span_id: String,
}

impl Default for Origin {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let unique = Uuid::now_v7().simple().to_string();
        Self {
            trace_id: format!("{now:08x}{}", &unique[8..]),
            span_id: format!("{:016x}", fastrand::u64(1..)),
        }
    }
}

impl Origin {
    /// The trace context of a span.
    pub fn of(span: &Span) -> Self {
        Self { trace_id: span.trace_id.clone(), span_id: span.span_id.clone() }
    }

    /// The trace context, sampled, as a W3C `traceparent`.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.span_id)
    }

    /// Whether it is the parent of a span.
    pub fn is_parent_of(&self, span: &Span) -> bool {
        span.trace_id == self.trace_id && span.parent_id.as_deref() == Some(self.span_id.as_str())
    }

    /// Whether a span has a link to it.
    pub fn is_linked_by(&self, span: &Span) -> bool {
        span.links.iter().any(|link| link.trace_id == self.trace_id && link.span_id == self.span_id)
    }

    /// The trace context, sampled or not, as an `X-Amzn-Trace-Id`.
    pub fn header(&self, sampled: bool) -> String {
        let (epoch, unique) = self.trace_id.split_at(8);
        format!("Root=1-{epoch}-{unique};Parent={};Sampled={}", self.span_id, u8::from(sampled))
    }
}

impl Answer {
    /// The request's trace context and whether the trace is sampled, from the header `traceresponse`.
    pub fn trace_context(&self) -> (Origin, bool) {
        let header = self.header("traceresponse").unwrap_or_else(|| panic!("no traceresponse: {self:?}"));
        let [version, trace_id, span_id, flags] = header.split('-').collect::<Vec<_>>()[..] else {
            panic!("not a traceresponse: {header}")
        };
        assert_eq!((version, trace_id.len(), span_id.len()), ("00", 32, 16), "{header}");
        assert!(["00", "01"].contains(&flags), "{header}");
        (Origin { trace_id: trace_id.to_owned(), span_id: span_id.to_owned() }, flags == "01")
    }
}

/// A trace, as far as it has been received.
#[derive(Clone, Debug, Deserialize)]
pub struct Trace {
    /// The trace.
    pub trace_id: String,
    /// Its spans.
    pub spans: Vec<Span>,
}

/// A span.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "OpenTelemetry's names")]
pub struct Span {
    pub trace_id: String,
    pub span_id: String,
    pub parent_id: Option<String>,
    pub name: String,
    pub kind: String,
    pub function: String,
    /// Microseconds since 1970.
    pub start: f64,
    /// Microseconds.
    pub duration: f64,
    pub status: String,
    pub attributes: HashMap<String, Value>,
    pub links: Vec<Link>,
}

/// A link to a span of another trace.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "OpenTelemetry's names")]
pub struct Link {
    pub trace_id: String,
    pub span_id: String,
}

impl Span {
    /// Whether the span is a function's work on a request or an event, and not a call that it makes.
    fn is_hop(&self) -> bool {
        self.kind != "client"
    }

    fn end(&self) -> f64 {
        self.start + self.duration
    }

    /// Its text in a [`Trace::story`].
    pub fn title(&self) -> String {
        match self.attributes.get("error.type").and_then(Value::as_str).filter(|_| self.status == "error") {
            Some(reason) => format!("{}: {} failed: {reason}", self.function, self.name),
            None => format!("{}: {}", self.function, self.name),
        }
    }
}

impl System {
    /// A trace, as far as it has been received.
    pub async fn trace(&self, trace_id: &str) -> Option<Trace> {
        let url = format!("{}/api/traces/{trace_id}", self.output("trace_url"));
        let answer = self.http.get(url).send().await.expect("the receiver answers");
        if answer.status() == 404 {
            return None;
        }
        Some(answer.json().await.expect("a trace"))
    }

    /// The ids of the traces that have a span with this id among its attributes.
    pub async fn traces_of(&self, id: &str) -> Vec<String> {
        let url = format!("{}/api/traces?id={id}&limit=100", self.output("trace_url"));
        let answer: Value =
            self.http.get(url).send().await.expect("the receiver answers").json().await.unwrap();
        let items = answer["items"].as_array().unwrap().iter();
        items.map(|item| item["trace_id"].as_str().unwrap().to_owned()).collect()
    }
}

impl Trace {
    /// The hops of the trace as a tree: a line for each, indented two spaces further than its cause, siblings in alphabetical
    /// order. A hop without a known cause is not indented.
    pub fn story(&self) -> String {
        let by_id: HashMap<&str, &Span> =
            self.spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
        let mut below: BTreeMap<Option<&str>, Vec<&Span>> = BTreeMap::new();
        for span in self.spans.iter().filter(|span| span.is_hop()) {
            let mut cause = span.parent_id.as_deref().and_then(|id| by_id.get(id));
            while let Some(call) = cause.filter(|cause| !cause.is_hop()) {
                cause = call.parent_id.as_deref().and_then(|id| by_id.get(id));
            }
            below.entry(cause.map(|cause| cause.span_id.as_str())).or_default().push(span);
        }
        subtree(&below, None, 0)
    }

    /// What is inconsistent in the trace, whatever its story is. Empty if every span has a known parent and plausible times.
    /// `origin` is where the trace begins for the test: the span of the function that answered, whose parent is Lambda's, or a
    /// span of the test itself.
    pub fn inconsistencies(&self, origin: &Origin) -> Vec<String> {
        let by_id: HashMap<&str, &Span> =
            self.spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
        let mut found = Vec::new();
        for span in &self.spans {
            let title = span.title();
            if span.trace_id != origin.trace_id {
                found.push(format!("{title} is in another trace"));
            }
            if span.duration <= 0.0 {
                found.push(format!("{title} took no time"));
            }
            let parent = span.parent_id.as_deref().unwrap_or_default();
            let Some(parent) = by_id.get(parent) else {
                if span.span_id != origin.span_id && parent != origin.span_id {
                    found.push(format!("the parent of {title} is not known"));
                }
                continue;
            };
            if span.start < parent.start - SAME_MOMENT {
                found.push(format!("{title} began before {}", parent.title()));
            }
            // The caller waits for a call, and the call for the work that it requests. No one waits for the work on an event.
            let awaited = !span.is_hop() || !parent.is_hop();
            if awaited && span.end() > parent.end() + SAME_MOMENT {
                found.push(format!("{title} ended after {}", parent.title()));
            }
            if !span.is_hop() && span.function != parent.function {
                found.push(format!("{title} is a call that {} did not make", parent.title()));
            }
        }
        found
    }

    /// The hops, in the order in which they began.
    pub fn hops(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(|span| span.is_hop())
    }
}

fn subtree(below: &BTreeMap<Option<&str>, Vec<&Span>>, cause: Option<&str>, depth: usize) -> String {
    let mut parts: Vec<String> = below
        .get(&cause)
        .into_iter()
        .flatten()
        .map(|span| {
            let indent = "  ".repeat(depth);
            format!("{indent}{}\n{}", span.title(), subtree(below, Some(&span.span_id), depth + 1))
        })
        .collect();
    parts.sort();
    parts.concat()
}
