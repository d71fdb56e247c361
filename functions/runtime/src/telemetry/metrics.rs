//! Metrics in CloudWatch's embedded metric format: log lines that CloudWatch turns into metrics by itself, so that none
//! costs a call (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
//!
//! All are in the namespace `Madang`. `infra/observability.md` explains each; the dashboard and the alarms in
//! `infra/observability.yaml` use them. Here are those of every function; those of one service are in its crate
//! (`orders::metrics`).

use std::{io, sync::OnceLock, time::Duration};

use metrics::{Label, SharedString, Unit, counter, describe_counter, describe_histogram, histogram};
use metrics_cloudwatch_embedded::{Builder, Collector};

/// Their namespace in CloudWatch.
const NAMESPACE: &str = "Madang";

/// A counter. Its unit is described at each use, so that a metric is one constant and no list of all metrics has to be kept.
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
pub const LATENCY: Time = Time::by("Latency", "endpoint");
/// Answers 2xx and 3xx, by endpoint.
pub const SUCCESSES: Count = Count::by("Successes", "endpoint");
/// Answers 4xx, by endpoint.
pub const CLIENT_ERRORS: Count = Count::by("ClientErrors", "endpoint");
/// Answers 5xx, by endpoint.
pub const SERVER_ERRORS: Count = Count::by("ServerErrors", "endpoint");
/// One run of a step of the saga, by step (`payments-authorize`).
pub const STEP_TIME: Time = Time::by("StepTime", "step");
/// Attempts of a step that failed, without refusals, by step.
pub const STEP_FAILURES: Count = Count::by("StepFailures", "step");
/// From a change to its event on the bus, by publishing service.
pub const RELAY_LAG: Time = Time::by("RelayLag", "service");
/// Events that the bus refused and that will be retried, by publishing service.
pub const RELAY_REFUSALS: Count = Count::by("RelayRefusals", "service");
/// From an event's publication to its durable effect, by consumer (`posts-on-user`). The bus records whole seconds, so this
/// is up to a second too long.
pub const CONSUMER_LAG: Time = Time::by("ConsumerLag", "consumer");
/// Deliveries that failed and will be retried, by consumer.
pub const CONSUMER_FAILURES: Count = Count::by("ConsumerFailures", "consumer");
/// The age of a message that is delivered again, by consumer. One that fails is given up after six hours.
pub const RETRY_AGE: Time = Time::by("RetryAge", "consumer");
/// Messages given up, by consumer or relay.
pub const DEAD_LETTERS: Count = Count::by("DeadLetters", "consumer");
/// E-mails that the mail service accepted.
pub const EMAILS_SENT: Count = Count::new("EmailsSent");
/// E-mails that the mail service did not accept; they will be retried.
pub const EMAILS_FAILED: Count = Count::new("EmailsFailed");
/// Calls to another service that failed, by that service.
pub const CALL_FAILURES: Count = Count::by("CallFailures", "service");

impl Count {
    /// A counter without a dimension.
    pub const fn new(name: &'static str) -> Self {
        Self { name, dimension: None }
    }

    /// A counter for each value of a dimension.
    pub const fn by(name: &'static str, dimension: &'static str) -> Self {
        Self { name, dimension: Some(dimension) }
    }

    /// Adds one, for a metric without a dimension.
    pub fn increment(self) {
        self.increment_for("");
    }

    /// Adds one, for this value of the metric's dimension.
    pub fn increment_for(self, value: impl Into<SharedString>) {
        describe_counter!(self.name, Unit::Count, "");
        counter!(self.name, labels(self.dimension, value.into())).increment(1);
    }
}

impl Time {
    /// A metric without a dimension.
    pub const fn new(name: &'static str) -> Self {
        Self { name, dimension: None }
    }

    /// A metric for each value of a dimension.
    pub const fn by(name: &'static str, dimension: &'static str) -> Self {
        Self { name, dimension: Some(dimension) }
    }

    /// Records a duration, for a metric without a dimension.
    pub fn record(self, time: Duration) {
        self.record_for("", time);
    }

    /// Records a duration, for this value of the metric's dimension.
    pub fn record_for(self, value: impl Into<SharedString>, time: Duration) {
        describe_histogram!(self.name, Unit::Milliseconds, "");
        histogram!(self.name, labels(self.dimension, value.into())).record(time.as_secs_f64() * 1e3);
    }
}

fn labels(dimension: Option<&'static str>, value: SharedString) -> Vec<Label> {
    dimension.map(|name| Label::new(name, value)).into_iter().collect()
}

static COLLECTOR: OnceLock<Option<&'static Collector>> = OnceLock::new();

/// Starts collecting.
pub(crate) fn start() {
    COLLECTOR.get_or_init(|| Builder::new().cloudwatch_namespace(NAMESPACE).init().ok());
}

/// Writes what was collected: a line for each value of a dimension, with the ids of the request and the trace.
pub(crate) fn flush(request_id: &str, trace_id: String) {
    let Some(Some(collector)) = COLLECTOR.get() else { return };
    collector.set_property("request_id", request_id.to_owned()).set_property("trace_id", trace_id);
    if let Err(error) = collector.flush(io::stdout().lock()) {
        tracing::warn!(cause = %error, "metrics could not be written");
    }
}
