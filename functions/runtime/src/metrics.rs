//! Metrics in CloudWatch's embedded metric format: log lines that CloudWatch turns into metrics by itself, so that none
//! costs a call (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
//!
//! All are in the namespace `Madang`. `infra/observability.md` explains each; the dashboard and the alarms in
//! `infra/observability.yaml` use them. Orders are counted after the answer to the write: if the process dies then, or the
//! answer is lost, one is missing, but none is counted twice. Parked orders are counted before the write, at every attempt,
//! because an alarm too many is better than one too few.

use std::{io, sync::OnceLock, time::Duration};

use metrics::{Label, SharedString, Unit, counter, describe_counter, describe_histogram, histogram};
use metrics_cloudwatch_embedded::{Builder, Collector};

/// Their namespace in CloudWatch.
const NAMESPACE: &str = "Madang";

/// A counter.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    name: &'static str,
    dimension: Option<&'static str>,
}

/// A metric of durations.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    name: &'static str,
    dimension: Option<&'static str>,
}

/// From request to answer, by endpoint (`POST /posts`).
pub const LATENCY: Time = Time { name: "Latency", dimension: Some("endpoint") };
/// Answers 2xx and 3xx, by endpoint.
pub const SUCCESSES: Count = Count { name: "Successes", dimension: Some("endpoint") };
/// Answers 4xx, by endpoint.
pub const CLIENT_ERRORS: Count = Count { name: "ClientErrors", dimension: Some("endpoint") };
/// Answers 5xx, by endpoint.
pub const SERVER_ERRORS: Count = Count { name: "ServerErrors", dimension: Some("endpoint") };
/// Orders that were accepted.
pub const ORDERS_PLACED: Count = Count { name: "OrdersPlaced", dimension: None };
/// Orders that were confirmed.
pub const ORDERS_CONFIRMED: Count = Count { name: "OrdersConfirmed", dimension: None };
/// Orders that were rejected, by reason (`payment_declined`).
pub const ORDERS_REJECTED: Count = Count { name: "OrdersRejected", dimension: Some("reason") };
/// Orders that their buyers cancelled.
pub const ORDERS_CANCELLED: Count = Count { name: "OrdersCancelled", dimension: None };
/// Orders that were left to an operator.
pub const ORDERS_PARKED: Count = Count { name: "OrdersParked", dimension: None };
/// From placing an order to its confirmation, cancellation, or rejection with all compensations. What follows a confirmation
/// or cancellation, capturing or refunding the money, is not included.
pub const SETTLING_TIME: Time = Time { name: "SettlingTime", dimension: None };
/// One run of a step of the saga, by step (`payments-authorize`).
pub const STEP_TIME: Time = Time { name: "StepTime", dimension: Some("step") };
/// Runs of a step that failed and will be retried, by step.
pub const STEP_FAILURES: Count = Count { name: "StepFailures", dimension: Some("step") };
/// From a change to its event on the bus, by publishing service.
pub const RELAY_LAG: Time = Time { name: "RelayLag", dimension: Some("service") };
/// Events that the bus refused and that will be retried, by publishing service.
pub const RELAY_REFUSALS: Count = Count { name: "RelayRefusals", dimension: Some("service") };
/// From an event's publication to its durable effect, by consumer (`posts-on-user`). The bus records whole seconds, so this
/// is up to a second too long.
pub const CONSUMER_LAG: Time = Time { name: "ConsumerLag", dimension: Some("consumer") };
/// Deliveries that failed and will be retried, by consumer.
pub const CONSUMER_FAILURES: Count = Count { name: "ConsumerFailures", dimension: Some("consumer") };
/// Messages given up, by consumer or relay.
pub const DEAD_LETTERS: Count = Count { name: "DeadLetters", dimension: Some("consumer") };
/// E-mails that the mail service accepted.
pub const EMAILS_SENT: Count = Count { name: "EmailsSent", dimension: None };
/// E-mails that the mail service did not accept; they will be retried.
pub const EMAILS_FAILED: Count = Count { name: "EmailsFailed", dimension: None };
/// Calls to another service without an answer, by the service that was called.
pub const CALL_FAILURES: Count = Count { name: "CallFailures", dimension: Some("service") };

const COUNTS: [Count; 15] = [
    SUCCESSES,
    CLIENT_ERRORS,
    SERVER_ERRORS,
    ORDERS_PLACED,
    ORDERS_CONFIRMED,
    ORDERS_REJECTED,
    ORDERS_CANCELLED,
    ORDERS_PARKED,
    STEP_FAILURES,
    RELAY_REFUSALS,
    CONSUMER_FAILURES,
    DEAD_LETTERS,
    EMAILS_SENT,
    EMAILS_FAILED,
    CALL_FAILURES,
];
const TIMES: [Time; 5] = [LATENCY, SETTLING_TIME, STEP_TIME, RELAY_LAG, CONSUMER_LAG];

impl Count {
    /// Adds one, for a metric without a dimension.
    pub fn one(self) {
        self.one_of("");
    }

    /// Adds one, for this value of the metric's dimension.
    pub fn one_of(self, value: impl Into<SharedString>) {
        counter!(self.name, labels(self.dimension, value.into())).increment(1);
    }
}

impl Time {
    /// Records a duration, for a metric without a dimension.
    pub fn took(self, time: Duration) {
        self.took_of("", time);
    }

    /// Records a duration, for this value of the metric's dimension.
    pub fn took_of(self, value: impl Into<SharedString>, time: Duration) {
        histogram!(self.name, labels(self.dimension, value.into())).record(time.as_secs_f64() * 1e3);
    }
}

fn labels(dimension: Option<&'static str>, value: SharedString) -> Vec<Label> {
    dimension.map(|name| Label::new(name, value)).into_iter().collect()
}

static COLLECTOR: OnceLock<Option<&'static Collector>> = OnceLock::new();

/// Starts collecting.
pub(crate) fn start() {
    COLLECTOR.get_or_init(|| {
        let collector = Builder::new().cloudwatch_namespace(NAMESPACE).init().ok();
        for Count { name, .. } in COUNTS {
            describe_counter!(name, Unit::Count, "");
        }
        for Time { name, .. } in TIMES {
            describe_histogram!(name, Unit::Milliseconds, "");
        }
        collector
    });
}

/// Writes what was collected: a line for each value of a dimension, with the ids of the request and the trace.
pub(crate) fn flush(request_id: &str, trace_id: String) {
    let Some(Some(collector)) = COLLECTOR.get() else { return };
    collector.set_property("request_id", request_id.to_owned()).set_property("trace_id", trace_id);
    if let Err(error) = collector.flush(io::stdout().lock()) {
        tracing::warn!(cause = %error, "metrics could not be written");
    }
}
