//! A service's own copy of data that another service publishes in events.

use serde::{Deserialize, Serialize};

use super::{Condition, Error, Key, Table, Written};

/// The result of applying an event to a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The copy is from this event. It was written now, or by an earlier delivery that may not have finished the work that
    /// follows.
    Latest,
    /// The copy is from a later event already.
    Outdated,
}

#[derive(Serialize)]
struct Item<'a, T> {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    copy: &'a T,
}

#[derive(Deserialize)]
struct Known {
    sequence: u64,
}

impl Table {
    /// Writes the copy from an event of version `sequence`, unless it is from a later version already. The copy must have that
    /// version in its attribute `sequence`.
    pub async fn put_copy<T: Serialize>(&self, key: Key, copy: &T, sequence: u64) -> Result<Copied, Error> {
        match self.put::<Known>(&Item { key, copy }, Condition::older_than(sequence)).await? {
            Written::ConditionFailed(Some(known)) if known.sequence > sequence => Ok(Copied::Outdated),
            Written::Done | Written::ConditionFailed(_) => Ok(Copied::Latest),
        }
    }
}
