//! The outbox relay: from a table's stream to the event bus.
//!
//! An item's event is published if the item's previous image does not have it. `PutEvents` answers per entry: failed entries
//! are retried, and those that still fail are reported to Lambda as batch item failures, so that the stream delivers them again,
//! for 24 hours. After that Lambda sends a dead letter that names the batch. An event can be published twice (a crash between
//! `PutEvents` and the checkpoint), which consumers must tolerate.

use std::time::Duration;

use kernel::clock::Timestamp;
use runtime::{
    Error,
    aws::{
        bus::{Bus, Entry, MAX_ENTRIES},
        dead_letters::DeadLetters,
    },
    environment,
    retry::Retries,
    serve::stream::StreamRecord,
    telemetry::{
        Publication,
        metrics::{DEAD_LETTERS, RELAY_LAG, RELAY_REFUSALS},
    },
};
use serde::Deserialize;
use serde_json::Value;

/// Maximum retries of an entry in one invocation. After that the stream delivers it again.
const RETRIES: usize = 2;
/// Maximum pause before the first of them; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// An item's attribute that holds its latest event.
#[derive(Deserialize)]
struct Image {
    outbox: Value,
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

/// The event of a record, with its JSON; `None` if it has none; an error if the outbox does not hold an event.
fn event(record: &StreamRecord) -> Result<Option<(Head, String)>, String> {
    let Ok(Image { outbox }) = record.new_image() else { return Ok(None) };
    let published = record.old_image::<Image>().is_some_and(|old| old.outbox.get("id") == outbox.get("id"));
    if published {
        return Ok(None);
    }
    let head = Head::deserialize(&outbox).map_err(|error| error.to_string())?;
    Ok(Some((head, outbox.to_string())))
}

/// An event to publish.
#[derive(Debug)]
struct Waiting {
    sequence_number: String,
    head: Head,
    detail: String,
    publication: Publication,
}

impl Waiting {
    fn new(sequence_number: String, head: Head, detail: String) -> Self {
        let publication =
            Publication::begin(&head.id, &head.kind, &head.subject, head.traceparent.as_deref());
        Self { sequence_number, head, detail, publication }
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

    /// Publishes the events of records, in order. Returns the sequence numbers of those that failed.
    pub async fn publish(&self, records: Vec<StreamRecord>) -> Vec<String> {
        let mut failed = Vec::new();
        let mut waiting = Vec::new();
        for record in &records {
            match event(record) {
                Ok(Some((head, detail))) => {
                    waiting.push(Waiting::new(record.sequence_number.clone(), head, detail));
                }
                Ok(None) => {}
                Err(reason) => failed.extend(self.give_up(record, &reason).await),
            }
        }
        while !waiting.is_empty() {
            // Passed by value, because the span of a publication ends when it is dropped.
            let rest = waiting.split_off(MAX_ENTRIES.min(waiting.len()));
            failed.extend(self.put(waiting).await);
            waiting = rest;
        }
        failed
    }

    /// Puts up to ten entries on the bus, retries those that fail, and returns those that still failed.
    async fn put(&self, mut left: Vec<Waiting>) -> Vec<String> {
        let mut retries = Retries::new(FIRST_PAUSE, RETRIES);
        let mut attempt = 0;
        loop {
            let entries: Vec<Entry> = left.iter().map(Waiting::entry).collect();
            let results = self.bus.put(&entries).await;
            attempt += 1;
            let mut failed = Vec::new();
            for (waiting, result) in left.into_iter().zip(results) {
                let sequence_number = waiting.sequence_number.as_str();
                match result {
                    Ok(()) => {
                        RELAY_LAG.record_for(waiting.head.service(), waiting.head.time.elapsed());
                        waiting.publication.in_scope(|| tracing::info!(sequence_number, "published"));
                    }
                    Err(cause) => {
                        RELAY_REFUSALS.increment_for(waiting.head.service());
                        waiting.publication.in_scope(|| {
                            tracing::warn!(sequence_number, attempt, cause, "the bus refused an event");
                        });
                        failed.push(waiting);
                    }
                }
            }
            if failed.is_empty() || !retries.wait().await {
                let give_back = |waiting: Waiting| {
                    waiting.publication.failed();
                    waiting.sequence_number
                };
                return failed.into_iter().map(give_back).collect();
            }
            left = failed;
        }
    }

    /// Moves a record that is not an event to the dead-letter queue, so that it does not block the events behind it. If that
    /// fails, it stays in the stream.
    async fn give_up(&self, record: &StreamRecord, reason: &str) -> Option<String> {
        let sequence_number = record.sequence_number.as_str();
        let outbox = record.new_image::<Value>().unwrap_or_default().to_string();
        match self.dead_letters.send(&outbox, reason).await {
            Ok(()) => {
                DEAD_LETTERS.increment_for(self.function.clone());
                // The reason can quote the item, so it is sent with it and not logged.
                tracing::error!(
                    sequence_number,
                    "not an event: the dead-letter queue has the item and the reason"
                );
                None
            }
            Err(error) => {
                tracing::error!(sequence_number, cause = %error, "could not be moved to the dead-letter queue; it stays in the stream");
                Some(sequence_number.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_dynamo::Item;
    use serde_json::json;

    use super::*;

    fn image(outbox: &Value) -> Item {
        serde_dynamo::to_item(json!({"pk": "post#1", "outbox": outbox})).unwrap()
    }

    fn outbox(id: &str) -> Value {
        json!({
            "specversion": "1.0", "id": id, "source": "madang.posts", "type": "post.created", "sequence": 1,
            "subject": "0190a6c4-0000-7000-8000-000000000001", "time": "2026-05-04T09:30:00.123456Z",
            "traceparent": "00-67890abc0123456789abcdef01234567-53995c3f42cd8ad8-01",
        })
    }

    #[test]
    fn a_new_event_becomes_an_entry_that_carries_it_whole() {
        let record = StreamRecord::new("1", Item::default(), image(&outbox("a")));
        let (head, detail) = event(&record).unwrap().unwrap();
        let entry = Waiting::new("1".to_owned(), head, detail).entry();
        assert_eq!((entry.source.as_str(), entry.detail_type.as_str()), ("madang.posts", "post.created"));
        assert_eq!(serde_json::from_str::<Value>(&entry.detail).unwrap(), outbox("a"));
    }

    #[test]
    fn a_change_that_leaves_the_event_alone_publishes_nothing() {
        let record = StreamRecord::new("1", image(&outbox("a")), image(&outbox("a")));
        assert!(event(&record).unwrap().is_none());
    }

    #[test]
    fn the_next_event_of_the_same_item_is_published() {
        let record = StreamRecord::new("1", image(&outbox("a")), image(&outbox("b")));
        assert!(event(&record).unwrap().is_some());
    }

    #[test]
    fn an_item_without_an_outbox_or_a_removed_item_publishes_nothing() {
        let copy: Item = serde_dynamo::to_item(json!({"pk": "author#1"})).unwrap();
        assert!(event(&StreamRecord::new("1", Item::default(), copy)).unwrap().is_none());
        assert!(event(&StreamRecord::new("1", image(&outbox("a")), Item::default())).unwrap().is_none());
    }

    #[test]
    fn an_outbox_that_holds_no_event_is_an_error() {
        let record = StreamRecord::new("1", Item::default(), image(&json!({"id": "a", "type": 7})));
        assert!(event(&record).is_err());
    }
}
