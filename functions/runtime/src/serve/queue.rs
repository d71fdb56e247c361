//! Serves a consumer: events from the bus, through a rule and an SQS queue.
//!
//! A message is deleted only once its effect is durable. A failed attempt is retried after a random pause whose maximum doubles. A
//! message that can never succeed, or that failed five times, is moved to the dead-letter queue, with the reason in
//! the message attribute `reason`. The queue's own redrive policy is the last resort, for a function that dies before it can
//! report anything.
//!
//! Handlers must be idempotent: SQS delivers at least once.

use std::{error, panic::AssertUnwindSafe, time::Instant};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::Client;
use futures::{FutureExt, future::join_all};
use kernel::{
    clock::Timestamp,
    event::{CloudEvent, Payload},
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error as ThisError;

use super::{
    RETRYABLE,
    cascade::{self, Progress},
};
use crate::{
    aws::{
        self,
        dead_letters::{self, DeadLetters},
    },
    deadline::Deadline,
    environment,
    error::chain,
    table::{self, Key, List, Table, copies::Copied},
    telemetry::{
        self, Kind, Unit, from_traceparent, from_xray_header,
        metrics::{CONSUMER_FAILURES, CONSUMER_LAG, DEAD_LETTERS},
    },
};

/// Maximum deliveries of a message: the queue's `maxReceiveCount`.
const MAX_DELIVERIES: u32 = 5;
/// The message attribute with a cascade's progress.
const PROGRESS: &str = "progress";

/// The message system attribute in which SQS carries the trace.
const TRACE_HEADER: &str = "AWSTraceHeader";

/// Why an event was not applied.
#[derive(Debug, ThisError)]
pub enum ConsumerError {
    /// It can never be applied: the message is moved to the dead-letter queue.
    #[error("{0}")]
    Permanent(String),
    /// A retry may succeed: the message stays in the queue.
    #[error("{}", chain(.0.as_ref()))]
    Retryable(Box<dyn error::Error + Send + Sync>),
}

impl ConsumerError {
    /// An error after which a retry may succeed.
    pub fn retryable(cause: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self::Retryable(cause.into())
    }
}

impl From<table::Error> for ConsumerError {
    /// A missing permission or a broken item is retryable too, because it can be fixed while the message waits.
    fn from(error: table::Error) -> Self {
        Self::retryable(error)
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

/// An event, and what its message and invocation add.
#[derive(Debug)]
pub struct Delivery<P> {
    /// The event.
    pub event: CloudEvent<P>,
    /// The progress of its cascade, if it has one.
    pub progress: Progress,
    /// The time by which the invocation must be done.
    pub deadline: Deadline,
}

impl<P> Delivery<P> {
    /// Applies a change to every item of a list, in several messages if need be: [`cascade::run`].
    pub async fn cascade(
        &self,
        table: &Table,
        list: &List,
        apply: impl AsyncFn(Key) -> Result<(), table::Error>,
    ) -> Result<Outcome, ConsumerError> {
        let left = cascade::run(table, list, self.progress.clone(), self.deadline, apply).await?;
        Ok(left.map_or(Outcome::Applied, Outcome::Continues))
    }
}

/// Does the work that follows an update of a copy, unless the copy is from a later event.
pub async fn follow_up(
    copied: Copied,
    work: impl Future<Output = Result<Outcome, ConsumerError>>,
) -> Result<Outcome, ConsumerError> {
    match copied {
        Copied::Latest => work.await,
        Copied::Outdated => Ok(Outcome::AlreadyApplied),
    }
}

/// EventBridge's envelope around a `CloudEvent`.
#[derive(Deserialize)]
struct BusEvent<P> {
    #[serde(rename = "detail-type")]
    event_type: String,
    /// When the bus accepted the event, in whole seconds, so that a lag is up to a second too long.
    time: Timestamp,
    detail: CloudEvent<P>,
}

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
    H: AsyncFn(&S, &Delivery<P>) -> Result<Outcome, ConsumerError>,
{
    let queue = Queue {
        consumer: environment::required("AWS_LAMBDA_FUNCTION_NAME")?,
        client: aws::client!(aws_sdk_sqs),
        url: environment::required("QUEUE_URL")?,
        dead_letters: DeadLetters::connect().await?,
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        let LambdaEvent { payload, context } = event;
        let deadline = Deadline::of(&context);
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
        deadline: Deadline,
        handler: impl AsyncFn(&Delivery<P>) -> Result<Outcome, ConsumerError>,
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
        published: &BusMetadata,
        delivery: &Delivery<P>,
        handler: impl AsyncFn(&Delivery<P>) -> Result<Outcome, ConsumerError>,
    ) -> bool {
        let start = Instant::now();
        // Boxed, so that the function's future does not contain the handler's.
        let applied = AssertUnwindSafe(handler(delivery)).catch_unwind().boxed_local().await;
        let result = match applied.unwrap_or_else(|_| Err(ConsumerError::retryable("the handler panicked"))) {
            Ok(Outcome::Continues(progress)) => {
                self.continue_later(message, &progress).await.map(|()| "continues")
            }
            Ok(Outcome::Applied) => Ok("applied"),
            Ok(Outcome::AlreadyApplied) => Ok("already applied"),
            Err(error) => Err(error),
        };
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        match result {
            Ok(outcome) => {
                // Only for the first message of a cascade: for the others the lag would include the cascade's own work.
                if delivery.progress == Progress::default() {
                    CONSUMER_LAG.record_for(self.consumer.clone(), published.at.elapsed());
                }
                unit.annotate("outcome", outcome);
                tracing::info!(message_id = id(message), outcome, milliseconds, "consumed");
                false
            }
            Err(ConsumerError::Permanent(reason)) => self.give_up(unit, message, &reason).await,
            Err(error @ ConsumerError::Retryable(_)) => {
                let deliveries = deliveries(message);
                if deliveries >= MAX_DELIVERIES {
                    let reason = format!("failed {deliveries} times, the last time with: {error}");
                    return self.give_up(unit, message, &reason).await;
                }
                CONSUMER_FAILURES.increment_for(self.consumer.clone());
                unit.fail(RETRYABLE);
                tracing::warn!(message_id = id(message), deliveries, milliseconds, cause = %error, "failed; will be retried");
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
                DEAD_LETTERS.increment_for(self.consumer.clone());
                tracing::error!(message_id, "moved to the dead-letter queue with the reason");
                false
            }
            Err(error) => {
                let cause = chain(error.as_ref());
                tracing::error!(
                    message_id,
                    cause,
                    "could not be moved to the dead-letter queue; it stays in the queue"
                );
                true
            }
        }
    }

    /// Sends the rest of a cascade as a new message to the function's own queue.
    async fn continue_later(&self, message: &SqsMessage, progress: &Progress) -> Result<(), ConsumerError> {
        let send = async {
            let attribute = dead_letters::text(serde_json::to_string(progress)?)?;
            self.client
                .send_message()
                .queue_url(&self.url)
                .message_body(body(message))
                .delay_seconds(progress.delay())
                .set_message_system_attributes(dead_letters::trace_attribute())
                .message_attributes(PROGRESS, attribute)
                .send()
                .await?;
            Ok(())
        };
        send.await.map_err(ConsumerError::Retryable)
    }

    /// Shortens a failed message's visibility time-out to a random pause, whose maximum is 2, 4, 8, then 16 seconds.
    async fn pause(&self, message: &SqsMessage, deliveries: u32) {
        let seconds = fastrand::i32(1..=1 << deliveries.min(MAX_DELIVERIES));
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
            tracing::warn!(cause = chain(&error), "could not change the visibility time-out");
        }
    }
}

/// The fields of [`BusEvent`] that are needed after parsing.
struct BusMetadata {
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
    deadline: Deadline,
) -> Result<(BusMetadata, Delivery<P>), String> {
    let BusEvent { event_type, time, detail } =
        serde_json::from_str(body(message)).map_err(|error| error.to_string())?;
    let progress = message
        .message_attributes
        .get(PROGRESS)
        .and_then(|attribute| attribute.string_value.as_deref())
        .map_or_else(|| Ok(Progress::default()), serde_json::from_str)
        .map_err(|error| format!("progress: {error}"))?;
    Ok((BusMetadata { event_type, at: time }, Delivery { event: detail, progress, deadline }))
}

/// The number of deliveries of the message, this one included.
fn deliveries(message: &SqsMessage) -> u32 {
    let count = message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
    count.unwrap_or(1)
}
