//! A service's own copy of data that another service publishes in events.

use serde::{Deserialize, Serialize};

use crate::table::{Condition, Error, Key, Table, Written};

/// Whether an event is the latest that this service knows about its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is. It was written now, or by an earlier delivery that may not have finished the work that follows.
    Latest,
    /// A later event was applied already.
    Overtaken,
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
    pub async fn put_copy<T: Serialize>(&self, key: Key, copy: &T, sequence: u64) -> Result<Standing, Error> {
        match self.put::<Known>(&Item { key, copy }, Condition::older_than(sequence)).await? {
            Written::Refused(Some(known)) if known.sequence > sequence => Ok(Standing::Overtaken),
            Written::Done | Written::Refused(_) => Ok(Standing::Latest),
        }
    }
}
