//! Stores an aggregate and the event of its latest change in one item: one write, nothing to roll back.
//!
//! The attribute `outbox` holds the event. The table's stream carries it to the relay, which publishes each event that the
//! item's previous image does not have. A deleted aggregate is kept as a [`Tombstone`] until its last event has certainly
//! been published and no late event about it can arrive.

use std::time::Duration;

use kernel::event::{CloudEvent, Payload};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::{Condition, Error, Key, Table, Written, creation::Origin};
use crate::{retry::Retries, telemetry::traceparent};

/// How long a tombstone is kept, in seconds: 30 days. No event about it can arrive later, because a dead-letter queue keeps a
/// message for 14 days and the bus delivers within one.
pub const TOMBSTONE_LIFE: i64 = 30 * 24 * 60 * 60;

/// Maximum retries of [`until_written`].
const RETRIES: usize = 5;
/// Maximum pause before the first of them; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The item under an aggregate's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Stored<T> {
    /// The aggregate.
    Live(T),
    /// The tombstone of a deleted aggregate.
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
}

/// The rest of a deleted aggregate: enough to refuse late events and repeated requests, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The version after the deletion.
    pub version: u64,
    /// When the aggregate was created, and the digest of the request that created it: a repeat of that request must not create
    /// it again.
    #[serde(flatten)]
    pub origin: Option<Origin>,
    /// When DynamoDB may remove the item, in seconds since 1970 (time to live).
    pub expires_at: i64,
}

/// An item with its keys and its event, as it is written.
#[derive(Serialize)]
struct Item<'a, T, P> {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    stored: Stored<&'a T>,
    /// `None` if the change publishes nothing.
    outbox: Option<CloudEvent<P>>,
}

/// The event, with the trace context of the work that caused it.
pub fn in_trace<P>(event: CloudEvent<P>) -> CloudEvent<P> {
    CloudEvent { traceparent: traceparent(), ..event }
}

/// Makes a change that reads the aggregate first, and reads it again each time that another change came in between: then `attempt`
/// returns `None`. Returns `None` only if that happened each time.
pub async fn until_written<T, E>(attempt: impl AsyncFn() -> Result<Option<T>, E>) -> Result<Option<T>, E> {
    let mut retries = Retries::new(FIRST_PAUSE, RETRIES);
    loop {
        let written = attempt().await?;
        if written.is_some() || !retries.wait().await {
            return Ok(written);
        }
    }
}

/// Some attributes of an aggregate, with the event of their change.
#[derive(Serialize)]
struct Attributes<'a, T, P> {
    #[serde(flatten)]
    set: &'a T,
    outbox: CloudEvent<P>,
}

impl Table {
    /// Stores a new aggregate with its event if there is no item under the key.
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

    /// Replaces an aggregate, together with the change's event if there is one, if the version is still `version_read`.
    pub async fn replace<T, P>(
        &self,
        key: Key,
        version_read: u64,
        aggregate: &T,
        event: Option<CloudEvent<P>>,
    ) -> Result<Written<()>, Error>
    where
        T: Serialize,
        P: Payload,
    {
        let item = Item { key, stored: Stored::Live(aggregate), outbox: event.map(in_trace) };
        Ok(self.put::<IgnoredAny>(&item, Condition::version(version_read)).await?.forget())
    }

    /// Sets the attributes of `set`, together with the change's event, if the version is still `version_read`.
    pub async fn save<T, P>(
        &self,
        key: Key,
        version_read: u64,
        set: &T,
        event: CloudEvent<P>,
    ) -> Result<Written<()>, Error>
    where
        T: Serialize,
        P: Payload,
    {
        let attributes = Attributes { set, outbox: in_trace(event) };
        let written = self.set::<IgnoredAny>(key, &attributes, &[], Condition::version(version_read)).await?;
        Ok(written.forget())
    }

    /// Replaces an aggregate by its tombstone, together with the deletion's event, if the version is still `version_read`.
    pub async fn bury<P>(
        &self,
        key: Key,
        version_read: u64,
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
        Ok(self.put::<IgnoredAny>(&item, Condition::version(version_read)).await?.forget())
    }

    /// Deletes an aggregate whatever its version is, as part of a cascade; one that is gone already counts as deleted. `delete`
    /// returns the version that was read, the aggregate's origin and the deletion's event.
    pub async fn bury_latest<T, P>(
        &self,
        key: Key,
        delete: impl Fn(T) -> (u64, Option<Origin>, CloudEvent<P>),
    ) -> Result<(), Error>
    where
        T: DeserializeOwned,
        P: Payload,
    {
        let buried = until_written(async || {
            let Some(Stored::Live(aggregate)) = self.get::<Stored<T>>(key.clone()).await? else {
                return Ok::<_, Error>(Some(()));
            };
            let (version_read, origin, event) = delete(aggregate);
            Ok(self.bury(key.clone(), version_read, origin, event).await?.then_some(()))
        });
        buried.await?.ok_or_else(|| Error::Unavailable("the item kept changing".into()))
    }
}
