//! Puts events on the event bus.

use aws_sdk_eventbridge::{Client, types::PutEventsRequestEntry};

use crate::{aws, environment, error::chain};

/// Maximum entries of one `PutEvents` call.
pub const MAX_ENTRIES: usize = 10;

/// An event, ready for the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `madang.<service>`.
    pub source: String,
    /// The event's name.
    pub detail_type: String,
    /// The event as JSON.
    pub detail: String,
    /// The trace that it belongs to, as an X-Ray header.
    pub trace_header: Option<String>,
}

/// The event bus.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    name: String,
}

impl Bus {
    /// Connects to the bus that the environment variable `EVENT_BUS` names.
    pub async fn connect() -> Result<Self, environment::Missing> {
        Ok(Self { client: aws::client!(aws_sdk_eventbridge), name: environment::required("EVENT_BUS")? })
    }

    /// Puts up to ten entries on the bus. Returns for each, in order, whether the bus accepted it; if the whole call fails, it
    /// accepted none.
    pub async fn put(&self, entries: &[Entry]) -> Vec<Result<(), String>> {
        let request = entries.iter().map(|entry| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source(&entry.source)
                .detail_type(&entry.detail_type)
                .detail(&entry.detail)
                .set_trace_header(entry.trace_header.clone())
                .build()
        });
        match self.client.put_events().set_entries(Some(request.collect())).send().await {
            Ok(answer) => {
                let mut taken = answer.entries.unwrap_or_default().into_iter();
                // An entry without an answer counts as not accepted.
                let of_one = |_| match taken.next() {
                    Some(entry) if entry.event_id.is_some() => Ok(()),
                    Some(entry) => Err(entry.error_code.unwrap_or_else(|| "no event id".to_owned())),
                    None => Err("no answer for this entry".to_owned()),
                };
                entries.iter().map(of_one).collect()
            }
            Err(error) => vec![Err(chain(&error)); entries.len()],
        }
    }
}
