//! The outbox relay: from a table's stream to the event bus.
//!
//! An item's event is published if the item's previous image does not have it. `PutEvents` answers per entry: failed entries
//! are retried, and those that still fail are reported to Lambda as batch item failures, so that the stream delivers them again.
//! Publishing stops there, because everything behind them is delivered again too. After 22 hours Lambda puts the whole record into a
//! bucket, from which it can be published later.
//!
//! What the bus will never accept, and what is not an event, goes to the dead-letter queue at once with the reason, so that it does not
//! block what is behind it. Of the item, the letter has the keys and the outbox alone: no event has an e-mail address, but items do.
//!
//! An event can be published twice (a crash between `PutEvents` and the checkpoint), which consumers must tolerate.

use std::time::Duration;

use kernel::clock::Timestamp;
use runtime::{
    Error,
    aws::{
        bus::{Bus, Entry, MAX_ENTRIES, Refusal},
        dead_letters::DeadLetters,
    },
    deadline::Deadline,
    environment,
    error::{Unreadable, chain, read_value},
    retry::Retries,
    serve::stream::StreamRecord,
    telemetry::{
        Publication,
        metrics::{DEAD_LETTERS, RELAY_LAG, RELAY_REFUSALS},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Maximum retries of an entry in one invocation. After that the stream delivers it again.
const RETRIES: usize = 2;
/// Maximum pause before the first of them; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// If less time than this is left, the rest is left to the next invocation: an attempt of `PutEvents`, and a dead letter.
const ATTEMPT_TIME: Duration = Duration::from_secs(8);

/// An item's attribute that holds its latest event.
#[derive(Deserialize)]
struct Image {
    outbox: Option<Value>,
}

/// The fields of an event that the relay reads. The rest is passed on unchanged.
#[derive(Debug, Deserialize)]
struct Head {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    subject: String,
    time: Timestamp,
    traceparent: Option<String>,
}

impl Head {
    /// The publishing service.
    fn service(&self) -> String {
        self.source.trim_start_matches("madang.").to_owned()
    }
}

/// The event of a record, with its JSON; `None` if it has none; an error if the record cannot be read or its outbox does not hold an
/// event.
fn event(record: &StreamRecord) -> Result<Option<(Head, String)>, Unreadable> {
    let new = record.new_image::<Image>()?;
    let Some(outbox) = new.and_then(|image| image.outbox) else { return Ok(None) };
    // An old image that cannot be read does not have the event: publishing it twice is harmless.
    let before = record.old_image::<Image>().ok().flatten().and_then(|image| image.outbox);
    if before.is_some_and(|before| before.get("id").is_some() && before.get("id") == outbox.get("id")) {
        return Ok(None);
    }
    let detail = outbox.to_string();
    Ok(Some((read_value(outbox)?, detail)))
}

/// The attributes of an item that a dead letter has.
const KEPT: [&str; 3] = ["pk", "sk", "outbox"];

/// The dead letter about a record: the item's keys and its outbox in JSON, from which it can be published later. If these cannot be
/// read, the record with nothing else of the item: with the keys and the sequence number, an operator finds the item in the table.
fn letter(record: &StreamRecord) -> String {
    #[derive(Deserialize, Serialize)]
    struct Kept {
        pk: String,
        sk: String,
        outbox: Value,
    }
    let kept = record.new_image::<Kept>().ok().flatten().and_then(|kept| serde_json::to_string(&kept).ok());
    kept.unwrap_or_else(|| record.with_only(&KEPT))
}

/// An event to publish.
#[derive(Debug)]
struct Waiting<'a> {
    record: &'a StreamRecord,
    head: Head,
    detail: String,
    publication: Publication,
}

impl<'a> Waiting<'a> {
    fn new(record: &'a StreamRecord, head: Head, detail: String) -> Self {
        let publication =
            Publication::begin(&head.id, &head.kind, &head.subject, head.traceparent.as_deref());
        Self { record, head, detail, publication }
    }

    /// Records that the bus has accepted it.
    fn published(self) {
        RELAY_LAG.record_for(self.head.service(), self.head.time.elapsed());
        let sequence_number = self.record.sequence_number.as_str();
        self.publication.in_scope(|| tracing::info!(sequence_number, "published"));
    }

    /// Records that the bus has refused it.
    fn refused(&self, refusal: &Refusal, attempt: u32) {
        RELAY_REFUSALS.increment_for(self.head.service());
        let sequence_number = self.record.sequence_number.as_str();
        self.publication.in_scope(|| {
            tracing::warn!(sequence_number, attempt, cause = %refusal, "the bus refused an event");
        });
    }

    fn entry(&self) -> Entry {
        Entry {
            source: self.head.source.clone(),
            detail_type: self.head.kind.clone(),
            detail: self.detail.clone(),
            trace_header: self.publication.trace_header(),
        }
    }
}

/// The relay.
#[derive(Clone, Debug)]
pub struct Relay {
    function: String,
    bus: Bus,
    dead_letters: DeadLetters,
}

impl Relay {
    /// Connects to the bus and the dead-letter queue.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self {
            function: environment::required("AWS_LAMBDA_FUNCTION_NAME")?,
            bus: Bus::connect().await?,
            dead_letters: DeadLetters::connect().await?,
        })
    }

    /// Publishes the events of records, in order. Returns the sequence numbers of those that failed; the records behind them may not
    /// have been tried.
    pub async fn publish(&self, records: Vec<StreamRecord>, deadline: Deadline) -> Vec<String> {
        let mut stuck = None;
        let mut waiting = Vec::new();
        for record in &records {
            match event(record) {
                Ok(Some((head, detail))) => {
                    waiting.push(Waiting::new(record, head, detail));
                }
                Ok(None) => {}
                Err(reason) => {
                    if !self.set_aside(record, &reason.to_string()).await {
                        // The stream starts again here: what is before it has to be published now, what is behind it later.
                        stuck = Some(record.sequence_number.clone());
                        break;
                    }
                }
            }
        }
        while !waiting.is_empty() {
            // Passed by value, because the span of a publication ends when it is dropped.
            let rest = waiting.split_off(MAX_ENTRIES.min(waiting.len()));
            let failed = self.put(waiting, deadline).await;
            if !failed.is_empty() {
                return failed;
            }
            waiting = rest;
        }
        stuck.into_iter().collect()
    }

    /// Puts up to ten entries on the bus, retries those that fail, and returns those that still failed.
    async fn put(&self, mut left: Vec<Waiting<'_>>, deadline: Deadline) -> Vec<String> {
        let mut retries = Retries::new(FIRST_PAUSE, RETRIES);
        let mut attempt = 0;
        while deadline.time_left() > ATTEMPT_TIME {
            let entries: Vec<Entry> = left.iter().map(Waiting::entry).collect();
            let results = self.bus.put(&entries).await;
            attempt += 1;
            let mut failed = Vec::new();
            for (waiting, result) in left.into_iter().zip(results) {
                match result {
                    Ok(()) => waiting.published(),
                    Err(refusal) => {
                        waiting.refused(&refusal, attempt);
                        let set_aside = match &refusal {
                            Refusal::Permanent(reason) => self.set_aside(waiting.record, reason).await,
                            Refusal::Retryable(_) => false,
                        };
                        if !set_aside {
                            failed.push(waiting);
                        }
                    }
                }
            }
            left = failed;
            if left.is_empty() || !retries.wait().await {
                break;
            }
        }
        let give_back = |waiting: Waiting<'_>| {
            waiting.publication.failed();
            waiting.record.sequence_number.clone()
        };
        left.into_iter().map(give_back).collect()
    }

    /// Moves what can never be published to the dead-letter queue, so that it does not block the events behind it. False if that
    /// fails: then it stays in the stream.
    async fn set_aside(&self, record: &StreamRecord, reason: &str) -> bool {
        let sequence_number = record.sequence_number.as_str();
        match self.dead_letters.send(&letter(record), reason).await {
            Ok(()) => {
                DEAD_LETTERS.increment_for(self.function.clone());
                tracing::error!(
                    sequence_number,
                    cause = reason,
                    "cannot be published: the dead-letter queue has the event"
                );
                true
            }
            Err(error) => {
                let cause = chain(error.as_ref());
                tracing::error!(
                    sequence_number,
                    cause,
                    "could not be moved to the dead-letter queue; it stays in the stream"
                );
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    /// A record with these images, as a stream delivers it. An empty one is left out.
    fn record(old: &Value, new: &Value) -> StreamRecord {
        let keys = json!({"pk": {"S": "post#1"}, "sk": {"S": "post"}});
        let change = json!({
            "SequenceNumber": "1", "SizeBytes": 9, "StreamViewType": "NEW_AND_OLD_IMAGES", "Keys": keys,
            "OldImage": old, "NewImage": new,
        });
        let record =
            json!({"eventID": "1", "eventName": "MODIFY", "awsRegion": "us-east-1", "dynamodb": change});
        StreamRecord::read(&to_raw_value(&record).unwrap())
    }

    /// An item with this outbox, and with an attribute that no dead letter may have.
    fn image(outbox: &Value) -> Value {
        json!({
            "pk": {"S": "post#1"}, "sk": {"S": "post"}, "outbox": attribute(outbox),
            "email": {"S": "ara@example.com"},
        })
    }

    /// A value as DynamoDB writes it.
    fn attribute(value: &Value) -> Value {
        match value {
            Value::Null => json!({"NULL": true}),
            Value::Bool(value) => json!({"BOOL": value}),
            Value::Number(value) => json!({"N": value.to_string()}),
            Value::String(value) => json!({"S": value}),
            Value::Array(values) => json!({"L": values.iter().map(attribute).collect::<Vec<_>>()}),
            Value::Object(values) => {
                let values = values.iter().map(|(name, value)| (name.clone(), attribute(value)));
                json!({"M": values.collect::<serde_json::Map<_, _>>()})
            }
        }
    }

    fn outbox(id: &str) -> Value {
        json!({
            "specversion": "1.0", "id": id, "source": "madang.posts", "type": "post.created", "sequence": 1,
            "subject": "0190a6c4-0000-7000-8000-000000000001", "time": "2026-05-04T09:30:00.123456Z",
            "traceparent": "00-67890abc0123456789abcdef01234567-53995c3f42cd8ad8-01",
        })
    }

    fn none() -> Value {
        json!({})
    }

    #[test]
    fn a_new_event_becomes_an_entry_that_carries_it_whole() {
        let record = record(&none(), &image(&outbox("a")));
        let (head, detail) = event(&record).unwrap().unwrap();
        let entry = Waiting::new(&record, head, detail).entry();
        assert_eq!((entry.source.as_str(), entry.detail_type.as_str()), ("madang.posts", "post.created"));
        assert_eq!(serde_json::from_str::<Value>(&entry.detail).unwrap(), outbox("a"));
    }

    #[test]
    fn a_change_that_leaves_the_event_alone_publishes_nothing() {
        let record = record(&image(&outbox("a")), &image(&outbox("a")));
        assert!(event(&record).unwrap().is_none());
    }

    #[test]
    fn the_next_event_of_the_same_item_is_published() {
        let record = record(&image(&outbox("a")), &image(&outbox("b")));
        assert!(event(&record).unwrap().is_some());
    }

    #[test]
    fn an_item_without_an_outbox_or_a_removed_item_publishes_nothing() {
        let copy = json!({"pk": {"S": "author#1"}});
        assert!(event(&record(&none(), &copy)).unwrap().is_none());
        assert!(event(&record(&image(&outbox("a")), &none())).unwrap().is_none());
    }

    /// Items whose outbox holds no event.
    fn no_events() -> Vec<Value> {
        let kinds =
            [json!({"id": "a", "type": 7}), json!({}), json!("ara@example.com"), json!([1]), json!(false)];
        let mut binary = image(&json!(null));
        binary["outbox"] = json!({"B": "Bw=="});
        kinds.iter().map(image).chain([binary]).collect()
    }

    #[test]
    fn an_outbox_that_holds_no_event_is_an_error_that_does_not_quote_it() {
        for image in no_events() {
            let error = event(&record(&none(), &image)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("ara"), "{image}: {error}");
        }
    }

    #[test]
    fn a_reason_says_what_an_event_lacks() {
        let mut untyped = outbox("a");
        untyped.as_object_mut().unwrap().remove("type");
        let error = event(&record(&none(), &image(&untyped))).unwrap_err();
        assert_eq!(error.to_string(), "missing field `type`");
    }

    #[test]
    fn an_event_whose_previous_image_cannot_be_read_is_published() {
        let mut old = image(&json!(null));
        old["outbox"] = json!({"B": "Bw=="});
        assert!(event(&record(&old, &image(&outbox("a")))).unwrap().is_some());
    }

    #[test]
    fn a_dead_letter_has_the_keys_and_the_outbox_and_nothing_else_of_the_item() {
        let whole = letter(&record(&image(&outbox("a")), &image(&outbox("b"))));
        let kept = json!({"pk": "post#1", "sk": "post", "outbox": outbox("b")});
        assert_eq!(serde_json::from_str::<Value>(&whole).unwrap(), kept);
        for new in no_events() {
            let letter = letter(&record(&image(&outbox("a")), &new));
            assert!(!letter.contains("email"), "{letter}");
            assert!(letter.contains("post#1"), "{letter}");
        }
    }

    #[test]
    fn the_dead_letter_of_a_record_that_cannot_be_read_can_be_delivered_again_and_names_the_item() {
        for (new, left) in [
            (
                json!({"pk": {"S": "post#1"}, "outbox": {"X": "?"}, "email": {"S": "ara@example.com"}}),
                json!({"pk": {"S": "post#1"}, "outbox": {"X": "?"}}),
            ),
            (json!({"pk": "post#1", "email": "ara@example.com"}), json!({"pk": "post#1"})),
        ] {
            let letter: Value = serde_json::from_str(&letter(&record(&none(), &new))).unwrap();
            assert_eq!((&letter["eventID"], &letter["awsRegion"]), (&json!("1"), &json!("us-east-1")));
            let change = &letter["dynamodb"];
            assert_eq!((&change["SequenceNumber"], &change["NewImage"]), (&json!("1"), &left));
            assert_eq!(change["Keys"], json!({"pk": {"S": "post#1"}, "sk": {"S": "post"}}));
            assert_eq!(change.get("OldImage"), None);
        }
    }
}
