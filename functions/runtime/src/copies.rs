//! A service's own copy of what another service has told it by events.

use serde::{Deserialize, Serialize};

use crate::table::{Condition, Error, Key, Table, Written};

/// Whether an event about a subject is the latest that this service knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is: it was written now, or by an earlier delivery that may not have finished what follows.
    Latest,
    /// A later event has been seen.
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
    /// Writes what an event of version `sequence` tells, unless something later is known already. The
    /// copy must hold that version in its attribute `sequence`.
    pub async fn put_copy<T: Serialize>(&self, key: Key, copy: &T, sequence: u64) -> Result<Standing, Error> {
        match self.put::<Known>(&Item { key, copy }, Condition::older_than(sequence)).await? {
            Written::Refused(Some(known)) if known.sequence > sequence => Ok(Standing::Overtaken),
            Written::Done | Written::Refused(_) => Ok(Standing::Latest),
        }
    }
}
