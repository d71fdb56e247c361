//! Serves a consumer: events from the bus, through a rule and an SQS queue.
//!
//! A message is deleted only once its effect is durable. One that can never succeed is moved to the dead-letter queue at once, with
//! the reason in the message attribute `reason`. One whose attempt failed is retried for six hours (`RETRY_FOR`), after pauses that
//! grow to a quarter of an hour, so that an outage of an hour leaves no dead letter.
//!
//! The queue's own redrive policy is the last resort, for a message that kills the function every time. Such a message would take the
//! others of its batch with it. So messages that were delivered before are handled after the new ones, one at a time, in random order,
//! and each is deleted as soon as it is handled.
//!
//! Handlers must be idempotent: SQS delivers at least once.
//!
//! What a handler is given is an event that the service knows ([`Envelope::check`]), is as the bus has announced it, is from a time at
//! which it can have happened, and is not older than the tombstones that protect against it. Anything else is a permanent failure, and
//! its reason names the attribute.

use std::{
    error,
    marker::PhantomData,
    panic::AssertUnwindSafe,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::Client;
use futures::{FutureExt, future::join_all};
use kernel::{
    clock::Timestamp,
    event::{CloudEvent, Envelope, Payload},
};
use lambda_runtime::{Context, Diagnostic, Error};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use thiserror::Error as ThisError;

#[cfg(debug_assertions)]
use super::faults::Fault;
use super::{
    Function, RETRYABLE,
    cascade::{self, Progress},
};
use crate::{
    aws::dead_letters::{self, DeadLetters},
    deadline::Deadline,
    environment,
    error::{chain, read_json},
    table::{self, Key, List, Table, aggregate::TOMBSTONE_LIFE, copies::Copied},
    telemetry::{
        self, Kind, Unit, from_traceparent, from_xray_header,
        metrics::{CONSUMER_FAILURES, CONSUMER_LAG, DEAD_LETTERS, RETRY_AGE},
    },
};

/// How long a message is retried, from when it was sent. The next message of a cascade is a new one.
const RETRY_FOR: Duration = Duration::from_hours(6);
/// The longest pause after the first failed delivery; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_mins(15);
/// The part of an invocation's time that is kept for what follows the handlers: at most three calls of SQS, one after the other. These
/// are the next message of a cascade; if that fails, its pause; and the pauses of messages whose turn has not come.
const RESERVED_TIME: Duration = Duration::from_secs(5);
/// The time that a message gets which was delivered before. If less is left, it waits for another invocation.
const MIN_TIME: Duration = Duration::from_secs(2);
/// How far an event's time may be ahead of this function's clock: as far as a publisher's clock may be wrong before AWS refuses its
/// requests (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html>).
const MAX_AHEAD: Duration = Duration::from_mins(5);
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
struct BusEvent<'a> {
    #[serde(rename = "detail-type")]
    event_type: String,
    source: String,
    /// When the bus accepted the event, in whole seconds, so that a lag is up to a second too long.
    time: Timestamp,
    #[serde(borrow)]
    detail: &'a RawValue,
}

/// A queue, and what failed deliveries of its messages need.
struct Queue {
    consumer: String,
    client: Client,
    url: String,
    dead_letters: DeadLetters,
}

/// A function that consumes a queue.
struct Consumer<S, P, H> {
    state: S,
    handler: H,
    queue: Queue,
    payload: PhantomData<fn() -> P>,
}

/// Applies the events of each batch. Only the messages that failed are reported as failed.
pub async fn serve<S, P, H>(state: S, handler: H) -> Result<impl Function, Error>
where
    P: DeserializeOwned + Payload,
    H: AsyncFn(&S, &Delivery<P>) -> Result<Outcome, ConsumerError>,
{
    let queue = Queue {
        consumer: environment::required("AWS_LAMBDA_FUNCTION_NAME")?,
        client: dead_letters::client().await,
        url: environment::required("QUEUE_URL")?,
        dead_letters: DeadLetters::connect().await?,
    };
    Ok(Consumer { state, handler, queue, payload: PhantomData })
}

impl<S, P, H> Function for Consumer<S, P, H>
where
    P: DeserializeOwned + Payload,
    H: AsyncFn(&S, &Delivery<P>) -> Result<Outcome, ConsumerError>,
{
    async fn handle(&self, event: &RawValue, context: &Context) -> Result<Box<RawValue>, Diagnostic> {
        let deadline = Deadline::of(context).reserving(RESERVED_TIME);
        let failed = telemetry::invocation(context, Kind::Consumer, "queue", None, async |unit| {
            let batch: SqsEvent = read_json(event.get().as_bytes()).map_err(|error| {
                unit.fail("Unreadable");
                tracing::error!(cause = %error, "not a batch of messages");
                super::failed(&error)
            })?;
            self.report_redelivered(&batch.records, unit, context);
            Ok::<_, Diagnostic>(self.handle_batch(&batch.records, deadline).boxed_local().await)
        })
        .await?;
        let mut response = SqsBatchResponse::default();
        for message in failed {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = message;
            response.batch_item_failures.push(failure);
        }
        super::answer(&response)
    }
}

impl<S, P, H> Consumer<S, P, H>
where
    P: DeserializeOwned + Payload,
    H: AsyncFn(&S, &Delivery<P>) -> Result<Outcome, ConsumerError>,
{
    /// Writes the ages of messages that are delivered again. Now, because a message that kills the function would end it without a
    /// metric.
    fn report_redelivered(&self, messages: &[SqsMessage], unit: &Unit, context: &Context) {
        let redelivered: Vec<_> = messages.iter().filter(|message| deliveries(message) > 1).collect();
        for message in &redelivered {
            RETRY_AGE.record_for(self.queue.consumer.clone(), age(message));
        }
        if !redelivered.is_empty() {
            unit.flush_metrics(context);
        }
    }

    /// Handles a batch, and returns the ids of the messages that must be delivered again.
    async fn handle_batch(&self, messages: &[SqsMessage], deadline: Deadline) -> Vec<String> {
        let (new, mut redelivered): (Vec<_>, Vec<_>) =
            messages.iter().partition(|message| deliveries(message) == 1);
        let handled = new.iter().map(async |message| (*message, self.handle_one(message, deadline).await));
        let mut handled = join_all(handled).await;
        fastrand::shuffle(&mut redelivered);
        while let Some(message) = redelivered.pop() {
            let (left, others) = (deadline.time_left(), redelivered.len());
            if left < MIN_TIME {
                redelivered.push(message);
                break;
            }
            let share = left / u32::try_from(others + 1).unwrap_or(u32::MAX);
            let again = self.handle_one(message, Deadline::after(share.max(MIN_TIME))).await;
            if !again && others > 0 {
                self.queue.delete(message).await;
            }
            handled.push((message, again));
        }
        // Their pauses grow too, because each delivery counts towards `maxReceiveCount`.
        let waiting = redelivered.iter().map(async |message| {
            self.queue.pause(message, pause(deliveries(message))).await;
            (*message, true)
        });
        handled.extend(join_all(waiting).await);
        handled
            .into_iter()
            .filter(|(_, again)| *again)
            .filter_map(|(message, _)| message.message_id.clone())
            .collect()
    }

    async fn handle_one(&self, message: &SqsMessage, deadline: Deadline) -> bool {
        let handler = async |delivery: &Delivery<P>| (self.handler)(&self.state, delivery).await;
        self.queue.handle(message, deadline, handler).boxed_local().await
    }
}

impl Queue {
    /// Applies one message, in its event's trace. Returns whether it must be delivered again.
    async fn handle<P: DeserializeOwned + Payload>(
        &self,
        message: &SqsMessage,
        deadline: Deadline,
        handler: impl AsyncFn(&Delivery<P>) -> Result<Outcome, ConsumerError>,
    ) -> bool {
        let announced = announced(message);
        let origin = announced.as_ref().ok().and_then(|announced| announced.envelope.traceparent.as_deref());
        let carrier = message.attributes.get(TRACE_HEADER).and_then(|header| from_xray_header(header));
        let name = announced.as_ref().map_or("message", |announced| announced.published.event_type.as_str());
        let name = format!("consume {name}");
        let unit = Unit::of_batch(Kind::Consumer, &name, origin.and_then(from_traceparent), carrier);
        unit.run(async {
            let read = announced.and_then(|announced| {
                let Announced { published, envelope, .. } = &announced;
                unit.about(envelope.id, &published.event_type, P::SUBJECT, envelope.subject);
                read::<P>(message, announced, deadline)
            });
            match read {
                Ok((published, delivery)) => self.apply(&unit, message, &published, &delivery, handler).await,
                Err(reason) => self.give_up(&unit, message, &reason).await,
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
        let work = async || {
            // Boxed, so that the function's future does not contain the handler's.
            let applied = AssertUnwindSafe(handler(delivery)).catch_unwind().boxed_local();
            let applied = delivery.deadline.bound(applied).await.map_err(ConsumerError::retryable)?;
            applied.unwrap_or_else(|_| Err(ConsumerError::retryable("the handler panicked")))
        };
        #[cfg(not(debug_assertions))]
        let applied = work().await;
        #[cfg(debug_assertions)]
        let applied = {
            let fault = Fault::next(&self.consumer, &delivery.event.id.to_string());
            fault.around(work, ConsumerError::retryable).await
        };
        let result = match applied {
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
                let (age, deliveries) = (age(message), deliveries(message));
                if age >= RETRY_FOR {
                    let hours = RETRY_FOR.as_secs() / 3600;
                    let reason = format!(
                        "failed for {hours} h ({deliveries} deliveries), the last time with: {error}"
                    );
                    return self.give_up(unit, message, &reason).await;
                }
                CONSUMER_FAILURES.increment_for(self.consumer.clone());
                unit.fail(RETRYABLE);
                tracing::warn!(message_id = id(message), deliveries, milliseconds, cause = %error, "failed; will be retried");
                self.pause(message, pause(deliveries)).await;
                true
            }
        }
    }

    /// Moves a message to the dead-letter queue, with the reason. If that fails too, it stays in the queue.
    async fn give_up(&self, unit: &Unit, message: &SqsMessage, reason: &str) -> bool {
        let message_id = id(message);
        unit.fail("GivenUp");
        match self.dead_letters.send(body(message), reason).await {
            Ok(()) => {
                DEAD_LETTERS.increment_for(self.consumer.clone());
                tracing::error!(message_id, cause = reason, "moved to the dead-letter queue with the reason");
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

    /// Sets the pause before a message is delivered again.
    async fn pause(&self, message: &SqsMessage, pause: Duration) {
        // SQS takes whole seconds.
        #[allow(clippy::cast_possible_truncation, reason = "at most fifteen minutes")]
        let seconds = (pause.as_secs_f64() * time_scale()).round() as i32;
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

    /// Deletes a message that was handled, so that it is not delivered again if the function dies at a later one of its batch.
    async fn delete(&self, message: &SqsMessage) {
        let request = self.client.delete_message().queue_url(&self.url);
        if let Err(error) = request.set_receipt_handle(message.receipt_handle.clone()).send().await {
            // Lambda deletes it after the batch.
            tracing::warn!(cause = chain(&error), "could not delete a handled message");
        }
    }
}

/// The pause after a failed delivery: random, between half of a maximum and the maximum, which doubles with each delivery ("equal
/// jitter": <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
fn pause(deliveries: u32) -> Duration {
    let longest =
        FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(deliveries.saturating_sub(1))).min(MAX_PAUSE);
    longest.mul_f64(f64::midpoint(1.0, fastrand::f64()))
}

/// How long ago a message was sent.
fn age(message: &SqsMessage) -> Duration {
    let sent =
        message.attributes.get("SentTimestamp").and_then(|sent| sent.parse().ok()).map(Duration::from_millis);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(sent.unwrap_or(now)).div_f64(time_scale())
}

/// How many seconds a second of the retries takes: 1, unless a test sets `TIME_SCALE`. Not part of a release build.
fn time_scale() -> f64 {
    #[cfg(debug_assertions)]
    if let Some(scale) = std::env::var("TIME_SCALE").ok().and_then(|scale| scale.parse().ok()) {
        return scale;
    }
    1.0
}

/// Why an event of this time is not applied: it cannot have happened yet, or the tombstone that would refuse it may have been removed.
fn out_of_time(time: Timestamp) -> Option<String> {
    let (ahead, life) = (time.since(Timestamp::now()), Duration::from_secs(TOMBSTONE_LIFE.unsigned_abs()));
    if ahead > MAX_AHEAD {
        // It would be the newest of a list for as long.
        return Some(format!("time is in the future: {time}"));
    }
    let days = life.as_secs() / (24 * 60 * 60);
    (time.elapsed() > life).then(|| format!("the event is from {time}, more than {days} days ago"))
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

/// What the bus and the event's envelope say about a message.
struct Announced<'a> {
    published: BusMetadata,
    source: String,
    envelope: Envelope,
    /// The whole event.
    detail: &'a [u8],
}

/// Reads a message up to the event's data.
fn announced(message: &SqsMessage) -> Result<Announced<'_>, String> {
    let bus: BusEvent<'_> =
        read_json(body(message).as_bytes()).map_err(|error| format!("not an event: {error}"))?;
    let detail = bus.detail.get().as_bytes();
    let envelope = read_json(detail).map_err(|error| format!("not an event: in detail, {error}"))?;
    let published = BusMetadata { event_type: bus.event_type, at: bus.time };
    Ok(Announced { published, source: bus.source, envelope, detail })
}

/// Reads the rest. An error says why the event is never applied; it names the attribute, and quotes no text of the message.
fn read<P: DeserializeOwned + Payload>(
    message: &SqsMessage,
    announced: Announced<'_>,
    deadline: Deadline,
) -> Result<(BusMetadata, Delivery<P>), String> {
    let Announced { published, source, envelope, detail } = announced;
    envelope.check::<P>().map_err(|unknown| unknown.to_string())?;
    // The bus and its permissions go by its own copies of these two: a service may publish only what it is allowed to.
    if source != envelope.source {
        return Err("source is not that of the bus".to_owned());
    }
    if published.event_type != envelope.payload.event_type {
        return Err("type is not the detail-type of the bus".to_owned());
    }
    if let Some(reason) = out_of_time(envelope.time) {
        return Err(reason);
    }
    let payload: P = read_json(detail).map_err(|error| {
        let event_type = &envelope.payload.event_type;
        format!("data does not fit the type {event_type}: {error}")
    })?;
    let event = envelope.with(payload).map_err(|unknown| unknown.to_string())?;
    let progress = message.message_attributes.get(PROGRESS).and_then(|value| value.string_value.as_deref());
    let progress = progress.map_or_else(|| Ok(Progress::default()), |text| read_json(text.as_bytes()));
    let progress = progress.map_err(|error| format!("not a cascade's progress: {error}"))?;
    Ok((published, Delivery { event, progress, deadline }))
}

/// The number of deliveries of the message, this one included.
fn deliveries(message: &SqsMessage) -> u32 {
    let count = message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
    count.unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use events::{UserEvent, UserNamed};
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour_and_never_fall_below_half() {
        let longest = [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900];
        for (deliveries, longest) in (1..).zip(longest.map(Duration::from_secs)) {
            let drawn: Vec<Duration> = (0..500).map(|_| pause(deliveries)).collect();
            let (least, most) = (*drawn.iter().min().unwrap(), *drawn.iter().max().unwrap());
            assert!(least >= longest / 2 && least < longest.mul_f64(0.6), "{deliveries}: {least:?}");
            assert!(most <= longest && most > longest.mul_f64(0.9), "{deliveries}: {most:?}");
        }
        assert!(pause(u32::MAX) <= MAX_PAUSE);
    }

    #[test]
    fn an_outage_of_an_hour_is_survived_by_every_message_with_hours_to_spare() {
        let mut since_sent = Duration::ZERO;
        // The longest pauses.
        let pauses = (1..).map(|deliveries| FIRST_PAUSE.saturating_mul(1 << (deliveries - 1)).min(MAX_PAUSE));
        let deliveries = pauses.take_while(|pause| {
            since_sent += *pause;
            since_sent < RETRY_FOR
        });
        assert!(deliveries.count() > 30);
    }

    #[test]
    fn an_age_is_counted_from_when_the_message_was_sent() {
        let mut message = SqsMessage::default();
        assert!(age(&message) < MIN_TIME);
        let hour_ago =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().saturating_sub(Duration::from_hours(1));
        message.attributes.insert("SentTimestamp".to_owned(), hour_ago.as_millis().to_string());
        assert!(age(&message) >= Duration::from_hours(1) && age(&message) < Duration::from_mins(61));
    }

    #[test]
    fn an_event_that_may_have_outlived_its_tombstone_is_refused() {
        let days_ago = |days: i64| Timestamp::now().plus_seconds(-days * 24 * 60 * 60);
        assert_eq!(out_of_time(days_ago(29)), None);
        assert!(out_of_time(days_ago(31)).unwrap().ends_with("more than 30 days ago"));
    }

    #[test]
    fn an_event_from_the_future_is_refused_unless_a_clock_may_be_that_wrong() {
        let ahead = |seconds| out_of_time(Timestamp::now().plus_seconds(seconds));
        assert_eq!((ahead(0), ahead(290)), (None, None));
        assert!(ahead(310).unwrap().starts_with("time is in the future"));
    }

    /// What a consumer of users makes of an event of a user after this change of the bus's message.
    fn read_changed(change: impl Fn(&mut Value)) -> Result<CloudEvent<UserEvent>, String> {
        let named = UserNamed { id: Uuid::from_u128(7), name: "Ara".to_owned() };
        let event = CloudEvent::new(named.id, 1, Timestamp::now(), UserEvent::Created(named));
        let mut published = json!({
            "version": "0", "detail-type": "user.created", "source": "madang.users", "time": Timestamp::now(),
            "detail": event,
        });
        change(&mut published);
        let mut message = SqsMessage::default();
        message.body = Some(published.to_string());
        let read = announced(&message)
            .and_then(|announced| read::<UserEvent>(&message, announced, Deadline::after(MIN_TIME)));
        read.map(|(_, delivery)| delivery.event)
    }

    /// Why an event is not applied after this change of one of its attributes.
    fn refused(attribute: &str, value: &Value) -> String {
        read_changed(|published| published["detail"][attribute] = value.clone()).unwrap_err()
    }

    #[test]
    fn an_event_is_read_whole_with_fields_that_are_not_known() {
        let read = read_changed(|published| {
            published["detail"]["mood"] = json!("sunny");
            published["detail"]["data"]["mood"] = json!("sunny");
        });
        let named = UserNamed { id: Uuid::from_u128(7), name: "Ara".to_owned() };
        assert_eq!(read.unwrap().payload, UserEvent::Created(named));
    }

    #[test]
    fn an_event_that_does_not_fit_is_refused_with_a_reason_that_names_the_attribute() {
        let id = Uuid::from_u128(8);
        for (attribute, value) in [
            ("specversion", json!("0.3")),
            ("source", json!("madang.posts")),
            ("type", json!("user.renamed")),
            ("type", json!("user.updated")),
            ("schemaversion", json!(2)),
            ("sequence", json!(0)),
            ("sequence", json!(u64::MAX)),
            ("subject", json!(id)),
            ("time", json!(Timestamp::now().plus_seconds(24 * 60 * 60))),
            ("data", json!({"id": id})),
        ] {
            let reason = refused(attribute, &value);
            assert!(reason.starts_with(&format!("{attribute} ")), "{attribute} {value}: {reason}");
        }
        for (attribute, value) in [
            ("sequence", json!(-1)),
            ("sequence", json!(1.5)),
            ("schemaversion", json!("1")),
            ("subject", json!(7)),
        ] {
            let reason = refused(attribute, &value);
            assert!(reason.contains(&format!(" at {attribute} ")), "{attribute} {value}: {reason}");
        }
        assert_eq!(
            refused("data", &json!({"id": id})).split(" (line").next(),
            Some("data does not fit the type user.created: missing field `name`")
        );
    }

    #[test]
    fn an_event_of_a_later_version_is_refused_for_its_version_even_if_its_data_does_not_fit() {
        let reason = read_changed(|published| {
            published["detail"]["schemaversion"] = json!(2);
            published["detail"]["data"] = json!({"names": ["Ara"]});
        });
        assert_eq!(reason, Err("schemaversion is 2, but only 1 is known".to_owned()));
    }

    #[test]
    fn an_event_that_the_bus_announced_as_another_is_refused() {
        let reason = read_changed(|published| published["source"] = json!("madang.posts"));
        assert_eq!(reason, Err("source is not that of the bus".to_owned()));
        let reason = read_changed(|published| published["detail-type"] = json!("user.updated"));
        assert_eq!(reason, Err("type is not the detail-type of the bus".to_owned()));
    }

    #[test]
    fn a_reason_quotes_no_text_of_the_message() {
        const MARKER: &str = "ara@example.com";
        let at = |pointer: &'static str| {
            read_changed(|published| *published.pointer_mut(pointer).unwrap() = json!(MARKER))
        };
        let attributes = [
            "/detail",
            "/time",
            "/source",
            "/detail-type",
            "/detail/id",
            "/detail/type",
            "/detail/time",
            "/detail/source",
            "/detail/subject",
            "/detail/sequence",
            "/detail/specversion",
            "/detail/schemaversion",
            "/detail/data",
            "/detail/data/id",
        ];
        for attribute in attributes {
            let reason = at(attribute).unwrap_err();
            assert!(!reason.contains("ara@"), "{attribute}: {reason}");
        }
        let mut message = SqsMessage::default();
        message.body = Some(MARKER.to_owned());
        assert!(!announced(&message).err().unwrap().contains("ara@"));
    }
}
