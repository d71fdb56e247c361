//! The outbox relay: from a table's stream to the event bus.
//!
//! A change is published when the item's `outbox` holds an event that its previous image did not hold.
//! `PutEvents` answers per entry: what failed is tried again, and what still fails is reported to Lambda
//! as a batch item failure, so that the stream's checkpoint never passes an event that was not published.
//! An event can be published twice (a crash between `PutEvents` and the checkpoint); consumers know.

use std::time::Duration;

use kernel::trace;
use runtime::{
    Error,
    bus::{Bus, Entry, MAX_ENTRIES},
    dead_letters::DeadLetters,
    stream::Change,
};
use serde::Deserialize;
use serde_json::Value;

/// How often an entry is tried in one invocation; then the stream delivers it again.
const ATTEMPTS: u32 = 3;
/// The pause after the first attempt, in milliseconds; it doubles with each.
const FIRST_PAUSE: u64 = 50;

/// An item's attribute that holds its latest event.
#[derive(Deserialize)]
struct Image {
    outbox: Value,
}

/// What the relay has to know of an event: the rest passes through as it is.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    source: String,
    traceparent: Option<String>,
}

/// The entry for the event that a change brings, none where it brings none; an error where the outbox
/// does not hold an event.
fn entry(change: &Change) -> Result<Option<Entry>, String> {
    let Ok(Image { outbox }) = change.new_image() else { return Ok(None) };
    let published = change.old::<Image>().is_some_and(|old| old.outbox.get("id") == outbox.get("id"));
    if published {
        return Ok(None);
    }
    let head = Head::deserialize(&outbox).map_err(|error| error.to_string())?;
    Ok(Some(Entry {
        source: head.source,
        detail_type: head.kind,
        detail: outbox.to_string(),
        trace_header: head.traceparent.as_deref().and_then(trace::xray_header),
    }))
}

/// The relay.
#[derive(Clone, Debug)]
pub struct Relay {
    bus: Bus,
    dead_letters: DeadLetters,
}

impl Relay {
    /// Connects to the bus and the dead-letter queue.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self { bus: Bus::connect().await?, dead_letters: DeadLetters::connect().await? })
    }

    /// Publishes what the changes bring, in their order; gives back the sequence numbers of what failed.
    pub async fn publish(&self, changes: Vec<Change>) -> Vec<String> {
        let mut failed = Vec::new();
        let mut waiting = Vec::new();
        for change in &changes {
            match entry(change) {
                Ok(Some(entry)) => waiting.push((change.sequence_number.clone(), entry)),
                Ok(None) => {}
                Err(reason) => failed.extend(self.set_aside(change, &reason).await),
            }
        }
        for chunk in waiting.chunks(MAX_ENTRIES) {
            failed.extend(self.put(chunk.to_vec()).await);
        }
        failed
    }

    /// Puts up to ten entries on the bus, those that fail again, and tells which still failed.
    async fn put(&self, mut left: Vec<(String, Entry)>) -> Vec<String> {
        let mut attempt = 0;
        loop {
            let entries: Vec<Entry> = left.iter().map(|(_, entry)| entry.clone()).collect();
            let results = self.bus.put(&entries).await;
            attempt += 1;
            let mut failed = Vec::new();
            for ((sequence_number, entry), result) in left.into_iter().zip(results) {
                let event_type = entry.detail_type.as_str();
                match result {
                    Ok(()) => tracing::info!(sequence_number, event_type, "published"),
                    Err(cause) => {
                        tracing::warn!(
                            sequence_number,
                            event_type,
                            attempt,
                            cause,
                            "the bus refused an event"
                        );
                        failed.push((sequence_number, entry));
                    }
                }
            }
            if failed.is_empty() || attempt == ATTEMPTS {
                return failed.into_iter().map(|(sequence_number, _)| sequence_number).collect();
            }
            left = failed;
            let longest = FIRST_PAUSE << attempt;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=longest))).await;
        }
    }

    /// Moves what cannot be an event to the dead-letter queue, so that it does not block the events behind
    /// it; where that fails it stays in the stream.
    async fn set_aside(&self, change: &Change, reason: &str) -> Option<String> {
        let sequence_number = change.sequence_number.as_str();
        // The reason can quote the item, and goes where the item goes.
        tracing::error!(sequence_number, "not an event: the dead-letter queue has the item and the reason");
        let outbox = change.new_image::<Value>().unwrap_or_default().to_string();
        match self.dead_letters.send(&outbox, reason).await {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(sequence_number, cause = %error, "the dead-letter queue does not take it: it stays");
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

    fn event(id: &str) -> Value {
        json!({
            "specversion": "1.0", "id": id, "source": "madang.posts", "type": "post.created", "sequence": 1,
            "traceparent": "00-67890abc0123456789abcdef01234567-53995c3f42cd8ad8-01",
        })
    }

    #[test]
    fn a_new_event_becomes_an_entry_that_carries_it_whole() {
        let change = Change::new("1", Item::default(), image(&event("a")));
        let entry = entry(&change).unwrap().unwrap();
        assert_eq!((entry.source.as_str(), entry.detail_type.as_str()), ("madang.posts", "post.created"));
        assert_eq!(serde_json::from_str::<Value>(&entry.detail).unwrap(), event("a"));
        assert_eq!(
            entry.trace_header.unwrap(),
            "Root=1-67890abc-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled=1"
        );
    }

    #[test]
    fn a_change_that_leaves_the_event_alone_publishes_nothing() {
        let change = Change::new("1", image(&event("a")), image(&event("a")));
        assert_eq!(entry(&change).unwrap(), None);
    }

    #[test]
    fn the_next_event_of_the_same_item_is_published() {
        let change = Change::new("1", image(&event("a")), image(&event("b")));
        assert!(entry(&change).unwrap().is_some());
    }

    #[test]
    fn an_item_without_an_outbox_or_a_removed_item_publishes_nothing() {
        let copy: Item = serde_dynamo::to_item(json!({"pk": "author#1"})).unwrap();
        assert_eq!(entry(&Change::new("1", Item::default(), copy)).unwrap(), None);
        assert_eq!(entry(&Change::new("1", image(&event("a")), Item::default())).unwrap(), None);
    }

    #[test]
    fn an_outbox_that_holds_no_event_is_an_error() {
        let change = Change::new("1", Item::default(), image(&json!({"id": "a", "type": 7})));
        assert!(entry(&change).is_err());
    }
}
