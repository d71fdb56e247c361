//! Stores an aggregate and the event of its latest change in one item: one write, nothing to roll back.
//!
//! The attribute `outbox` holds the event. The table's stream carries it to the relay, which publishes
//! each event that an item's previous image did not have. A deleted aggregate stays as a [`Tombstone`]
//! until its last event has surely left and no late event about it can arrive.

use kernel::{
    clock::Timestamp,
    event::{CloudEvent, Payload},
    idempotency,
    problem::Problem,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    table::{Condition, Error, Key, Table, Written},
    telemetry::traceparent,
};

/// How long a tombstone stays, in seconds: 30 days. No event about it can arrive later, since a
/// dead-letter queue keeps a message for 14 days and the bus delivers within one.
pub const TOMBSTONE_LIFE: i64 = 30 * 24 * 60 * 60;

/// How often a cascade tries to delete an item that changes at the same time.
const BURY_ATTEMPTS: u32 = 3;

/// What stands under an aggregate's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Stored<T> {
    /// The aggregate.
    Live(T),
    /// What is left of a deleted one.
    Deleted(Tombstone),
}

impl<T> Stored<T> {
    /// The aggregate, unless it has been deleted.
    pub fn live(self) -> Option<T> {
        match self {
            Self::Live(aggregate) => Some(aggregate),
            Self::Deleted(_) => None,
        }
    }

    /// When the first request with an idempotency key was carried out, for a repeat of that request, and
    /// whatever has become since of what it made; 422 for another request.
    pub fn first_made(self, origin: impl Fn(&T) -> Origin, request: &str) -> Result<Timestamp, Problem> {
        let origin = match self {
            Self::Live(aggregate) => Some(origin(&aggregate)),
            Self::Deleted(tombstone) => tombstone.origin,
        };
        match origin {
            Some(origin) if origin.request == request => Ok(origin.created_at),
            _ => Err(idempotency::reused()),
        }
    }
}

/// What is left of a deleted aggregate: enough to refuse what comes late, nothing of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The version after the deletion.
    pub version: u64,
    /// When the aggregate was made, and the digest of the request that made it: a repeat of that request
    /// must not make it again.
    #[serde(flatten)]
    pub origin: Option<Origin>,
    /// When DynamoDB may remove the item, in seconds since 1970 (time to live).
    pub expires_at: i64,
}

/// The request that made an aggregate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// When it was made.
    pub created_at: Timestamp,
    /// The digest of the request.
    pub request: String,
}

/// An item with its keys and its event, as it is written.
#[derive(Serialize)]
struct Item<'a, T, P> {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    stored: Stored<&'a T>,
    /// None where the change says nothing to others.
    outbox: Option<CloudEvent<P>>,
}

/// The event with its place in the trace of the work that it comes from.
pub fn in_trace<P>(event: CloudEvent<P>) -> CloudEvent<P> {
    CloudEvent { traceparent: traceparent(), ..event }
}

/// A change of some attributes with its event.
#[derive(Serialize)]
struct Changed<'a, T, P> {
    #[serde(flatten)]
    set: &'a T,
    outbox: CloudEvent<P>,
}

impl Table {
    /// Stores a new aggregate with its event, where nothing stands under the key.
    pub async fn create<T, P>(
        &self,
        key: Key,
        aggregate: &T,
        event: CloudEvent<P>,
    ) -> Result<Written<Stored<T>>, Error>
    where
        T: Serialize + DeserializeOwned,
        P: Payload,
    {
        let item = Item { key, stored: Stored::Live(aggregate), outbox: Some(in_trace(event)) };
        self.put(&item, Condition::absent()).await
    }

    /// Writes a whole aggregate anew, with the change's event where it has one, where the version is still
    /// `read`.
    pub async fn replace<T, P>(
        &self,
        key: Key,
        read: u64,
        aggregate: &T,
        event: Option<CloudEvent<P>>,
    ) -> Result<Written<()>, Error>
    where
        T: Serialize,
        P: Payload,
    {
        let item = Item { key, stored: Stored::Live(aggregate), outbox: event.map(in_trace) };
        Ok(self.put::<serde::de::IgnoredAny>(&item, Condition::version(read)).await?.forget())
    }

    /// Changes the attributes of `set`, with the change's event, where the version is still `read`.
    pub async fn save<T, P>(
        &self,
        key: Key,
        read: u64,
        set: &T,
        event: CloudEvent<P>,
    ) -> Result<Written<()>, Error>
    where
        T: Serialize,
        P: Payload,
    {
        let changed = Changed { set, outbox: in_trace(event) };
        let written =
            self.update::<serde::de::IgnoredAny>(key, &changed, &[], Condition::version(read)).await?;
        Ok(written.forget())
    }

    /// Replaces an aggregate by its tombstone, with the deletion's event, where the version is still `read`.
    pub async fn bury<P>(
        &self,
        key: Key,
        read: u64,
        origin: Option<Origin>,
        event: CloudEvent<P>,
    ) -> Result<Written<()>, Error>
    where
        P: Payload,
    {
        let tombstone = Tombstone {
            version: event.sequence,
            origin,
            expires_at: event.time.as_second() + TOMBSTONE_LIFE,
        };
        let item = Item { key, stored: Stored::<&()>::Deleted(tombstone), outbox: Some(in_trace(event)) };
        Ok(self.put::<serde::de::IgnoredAny>(&item, Condition::version(read)).await?.forget())
    }

    /// Deletes an aggregate in whatever version it stands, as part of a cascade; one that is gone already
    /// counts as deleted. `delete` gives the version it was read in, its origin and the deletion's event.
    pub async fn bury_latest<T, P>(
        &self,
        key: Key,
        delete: impl Fn(T) -> (u64, Option<Origin>, CloudEvent<P>),
    ) -> Result<(), Error>
    where
        T: DeserializeOwned,
        P: Payload,
    {
        for _ in 0..BURY_ATTEMPTS {
            let Some(Stored::Live(aggregate)) = self.get::<Stored<T>>(key.clone()).await? else {
                return Ok(());
            };
            let (read, origin, event) = delete(aggregate);
            if self.bury(key.clone(), read, origin, event).await? == Written::Done {
                return Ok(());
            }
        }
        Err(Error::Unavailable("the item kept changing".into()))
    }
}
