//! Serves a consumer: events from the bus, through a rule and an SQS queue.
//!
//! A message leaves the queue only when its effect is durable. A failed attempt is retried after a pause that doubles, with
//! jitter. A message that can never succeed, or that failed five times, is moved to the dead-letter queue, with the reason in
//! the message attribute `reason`. The queue's own redrive policy is the last resort, for a function that dies before it can
//! report anything.
//!
//! Handlers must be idempotent: SQS delivers at least once.

use std::{
    error, fmt,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::Client;
use futures::{FutureExt, StreamExt, TryStreamExt, future::join_all, stream};
use kernel::{
    clock::Timestamp,
    event::{CloudEvent, Payload},
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    aws,
    dead_letters::{self, DeadLetters},
    environment,
    http::{deadline, error_chain},
    metrics::{CONSUMER_FAILURES, CONSUMER_LAG, DEAD_LETTERS},
    table::{self, Key, Query, Row, Table},
    telemetry::{self, Kind, Unit, from_traceparent, from_xray_header},
};

/// Maximum deliveries of a message: the queue's `maxReceiveCount`.
const MAX_DELIVERIES: u32 = 5;
/// Maximum pause before a failed message is delivered again, in seconds.
const LONGEST_PAUSE: u32 = 60;
/// A cascade hands the rest over to another invocation if less time than this is left.
const HAND_OVER: Duration = Duration::from_secs(5);
/// The pause between the two passes of a cascade, in seconds. Longer than an endpoint's time-out (10 s) plus the lag of an
/// index, so that the second pass finds items that were written during the first.
const SECOND_PASS_AFTER: i32 = 30;
/// The number of items that a cascade reads at once.
const CASCADE_PAGE: u32 = 100;
/// Maximum number of items that a cascade changes concurrently.
const CASCADE_WIDTH: usize = 16;
/// The message attribute with a cascade's progress.
const PROGRESS: &str = "progress";

/// Why an event was not applied.
#[derive(Debug)]
pub enum Failure {
    /// It can never be applied: the message is moved to the dead-letter queue.
    Permanent(String),
    /// A retry may succeed: the message stays in the queue.
    Temporary(Box<dyn error::Error + Send + Sync>),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent(reason) => formatter.write_str(reason),
            Self::Temporary(cause) => formatter.write_str(&error_chain(cause.as_ref())),
        }
    }
}

impl From<table::Error> for Failure {
    /// A missing permission or a broken item is temporary too, because it can be fixed while the message waits.
    fn from(error: table::Error) -> Self {
        Self::Temporary(error.into())
    }
}

/// The result of applying an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied.
    Applied,
    /// It, or a later event, was applied before.
    AlreadyApplied,
    /// Part of it was applied; the rest follows in another message.
    Continues(Progress),
}

/// The progress of a cascade over many items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 for the first pass over the items, 1 for the second.
    pub pass: u32,
    /// The sort key of the last item that was changed in this pass.
    pub after: Option<String>,
}

/// An event as it was delivered.
#[derive(Debug)]
pub struct Delivery<P> {
    /// The event.
    pub event: CloudEvent<P>,
    /// The progress of its cascade, if it has one.
    pub progress: Progress,
    deadline: Instant,
}

impl<P> Delivery<P> {
    /// How long the function still has.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Applies a change to every item of a list, page by page.
    ///
    /// Before the time runs out, a new message with the progress takes over the rest. A function that is killed repeats at most
    /// the work of one invocation. After the first pass a second one follows, for items that were written during the first.
    ///
    /// `list` is the list to go through; its own start and limit are ignored. `apply` gets each item's key and must be
    /// idempotent.
    pub async fn cascade(
        &self,
        table: &Table,
        list: Query,
        apply: impl AsyncFn(Key) -> Result<(), table::Error>,
    ) -> Result<Outcome, Failure> {
        let mut progress = self.progress.clone();
        loop {
            let page = Query { after: progress.after.clone(), limit: CASCADE_PAGE, ..list.clone() };
            let found = table.query::<Row>(&page).await?;
            let last = found.items.last().map(|row| row.created.clone());
            let work = stream::iter(found.items).map(|row| apply(row.key)).buffer_unordered(CASCADE_WIDTH);
            work.try_collect::<()>().await?;
            match last {
                Some(last) if found.more => progress.after = Some(last),
                _ if progress.pass == 0 => {
                    return Ok(Outcome::Continues(Progress { pass: 1, after: None }));
                }
                _ => return Ok(Outcome::Applied),
            }
            if self.time_left() < HAND_OVER {
                return Ok(Outcome::Continues(progress));
            }
        }
    }
}

/// The message that an EventBridge rule sends: its own envelope around ours.
#[derive(Deserialize)]
struct BusEvent<P> {
    #[serde(rename = "detail-type")]
    event_type: String,
    /// When the bus accepted the event, in whole seconds.
    time: Timestamp,
    detail: CloudEvent<P>,
}

/// The message system attribute in which SQS carries the trace.
const TRACE_HEADER: &str = "AWSTraceHeader";

struct Queue {
    consumer: String,
    client: Client,
    url: String,
    dead_letters: DeadLetters,
}

/// Applies events until Lambda ends the process. The messages of a batch are handled concurrently, and only those that failed
/// are reported as failed.
pub async fn serve<S, P, H>(state: S, handler: H) -> Result<(), Error>
where
    P: DeserializeOwned + Payload,
    H: AsyncFn(&S, &Delivery<P>) -> Result<Outcome, Failure>,
{
    let queue = Queue {
        consumer: environment::required("AWS_LAMBDA_FUNCTION_NAME")?,
        client: aws::client!(aws_sdk_sqs),
        url: environment::required("QUEUE_URL")?,
        dead_letters: DeadLetters::connect().await?,
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        let LambdaEvent { payload, context } = event;
        let deadline = deadline(&context);
        let failed = telemetry::invocation(&context, Kind::Consumer, "queue", None, async |_| {
            join_all(payload.records.iter().map(async |message| {
                let failed =
                    queue.handle(message, deadline, async |delivery| handler(&state, delivery).await).await;
                failed.then(|| message.message_id.clone()).flatten()
            }))
            .await
        })
        .await;
        let mut response = SqsBatchResponse::default();
        for id in failed.into_iter().flatten() {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            response.batch_item_failures.push(failure);
        }
        Ok::<_, Error>(response)
    }))
    .await
}

impl Queue {
    /// Applies one message, in its event's trace. Returns whether it must be delivered again.
    async fn handle<P: DeserializeOwned + Payload>(
        &self,
        message: &SqsMessage,
        deadline: Instant,
        handler: impl AsyncFn(&Delivery<P>) -> Result<Outcome, Failure>,
    ) -> bool {
        let read = read::<P>(message, deadline);
        let origin = read.as_ref().ok().and_then(|(_, delivery)| delivery.event.traceparent.as_deref());
        let carrier = message.attributes.get(TRACE_HEADER).and_then(|header| from_xray_header(header));
        let name = read.as_ref().map_or("message", |(published, _)| published.event_type.as_str());
        let name = format!("consume {name}");
        let unit = Unit::of_batch(Kind::Consumer, &name, origin.and_then(from_traceparent), carrier);
        unit.run(async {
            match read {
                Ok((published, delivery)) => {
                    let event = &delivery.event;
                    unit.about(event.id, &published.event_type, P::SUBJECT, event.subject);
                    self.apply(&unit, message, &published, &delivery, handler).await
                }
                Err(reason) => self.give_up(&unit, message, &format!("not an event: {reason}")).await,
            }
        })
        .await
    }

    async fn apply<P: Payload>(
        &self,
        unit: &Unit,
        message: &SqsMessage,
        published: &Published,
        delivery: &Delivery<P>,
        handler: impl AsyncFn(&Delivery<P>) -> Result<Outcome, Failure>,
    ) -> bool {
        let start = Instant::now();
        // Boxed, so that the function's future does not contain the handler's.
        let applied = AssertUnwindSafe(handler(delivery)).catch_unwind().boxed_local().await;
        let result = match applied.unwrap_or_else(|_| Err(Failure::Temporary("the handler panicked".into())))
        {
            Ok(Outcome::Continues(progress)) => self.send_on(message, &progress).await.map(|()| "continues"),
            Ok(Outcome::Applied) => Ok("applied"),
            Ok(Outcome::AlreadyApplied) => Ok("already applied"),
            Err(failure) => Err(failure),
        };
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        match result {
            Ok(outcome) => {
                // The rest of a cascade is late by design.
                if delivery.progress == Progress::default() {
                    CONSUMER_LAG.took_of(self.consumer.clone(), published.at.elapsed());
                }
                unit.annotate("outcome", outcome);
                tracing::info!(message_id = id(message), outcome, milliseconds, "consumed");
                false
            }
            Err(Failure::Permanent(reason)) => self.give_up(unit, message, &reason).await,
            Err(failure @ Failure::Temporary(_)) => {
                let deliveries = deliveries(message);
                if deliveries >= MAX_DELIVERIES {
                    let reason = format!("failed {deliveries} times, the last time with: {failure}");
                    return self.give_up(unit, message, &reason).await;
                }
                CONSUMER_FAILURES.one_of(self.consumer.clone());
                unit.fail("Transient");
                tracing::warn!(message_id = id(message), deliveries, milliseconds, cause = %failure, "will be tried again");
                self.pause(message, deliveries).await;
                true
            }
        }
    }

    /// Moves a message to the dead-letter queue, with the reason. If that fails too, it stays in the queue.
    async fn give_up(&self, unit: &Unit, message: &SqsMessage, reason: &str) -> bool {
        let message_id = id(message);
        unit.fail("GivenUp");
        // The reason can quote the message, so it is sent with it and not logged.
        match self.dead_letters.send(body(message), reason).await {
            Ok(()) => {
                DEAD_LETTERS.one_of(self.consumer.clone());
                tracing::error!(message_id, "given up: the dead-letter queue has the message and the reason");
                false
            }
            Err(error) => {
                let cause = error_chain(error.as_ref());
                tracing::error!(
                    message_id,
                    cause,
                    "the dead-letter queue does not take the message: it stays"
                );
                true
            }
        }
    }

    /// Sends the rest of a cascade as a new message to the function's own queue.
    async fn send_on(&self, message: &SqsMessage, progress: &Progress) -> Result<(), Failure> {
        let starts_second_pass = progress.pass == 1 && progress.after.is_none();
        let seconds = if starts_second_pass { SECOND_PASS_AFTER } else { 0 };
        let send = async {
            let progress = dead_letters::text(serde_json::to_string(progress)?)?;
            self.client
                .send_message()
                .queue_url(&self.url)
                .message_body(body(message))
                .delay_seconds(seconds)
                .set_message_system_attributes(dead_letters::trace_attribute())
                .message_attributes(PROGRESS, progress)
                .send()
                .await?;
            Ok(())
        };
        send.await.map_err(Failure::Temporary)
    }

    /// Has a failed message delivered again after a pause, not after the whole visibility time-out.
    async fn pause(&self, message: &SqsMessage, deliveries: u32) {
        let longest = LONGEST_PAUSE.min(1 << deliveries.min(10));
        let seconds = fastrand::i32(1..=i32::try_from(longest).unwrap_or(1));
        let changed = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .set_receipt_handle(message.receipt_handle.clone())
            .visibility_timeout(seconds)
            .send()
            .await;
        if let Err(error) = changed {
            // Then it is delivered again after the visibility time-out.
            tracing::warn!(cause = error_chain(&error), "the pause could not be set");
        }
    }
}

/// The bus's envelope of an event.
struct Published {
    event_type: String,
    at: Timestamp,
}

fn id(message: &SqsMessage) -> &str {
    message.message_id.as_deref().unwrap_or_default()
}

fn body(message: &SqsMessage) -> &str {
    message.body.as_deref().unwrap_or_default()
}

fn read<P: DeserializeOwned>(
    message: &SqsMessage,
    deadline: Instant,
) -> Result<(Published, Delivery<P>), String> {
    let BusEvent { event_type, time, detail } =
        serde_json::from_str(body(message)).map_err(|error| error.to_string())?;
    let progress = message
        .message_attributes
        .get(PROGRESS)
        .and_then(|attribute| attribute.string_value.as_deref())
        .map_or_else(|| Ok(Progress::default()), serde_json::from_str)
        .map_err(|error| format!("progress: {error}"))?;
    Ok((Published { event_type, at: time }, Delivery { event: detail, progress, deadline }))
}

/// The number of deliveries of the message, this one included.
fn deliveries(message: &SqsMessage) -> u32 {
    let count = message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
    count.unwrap_or(1)
}
