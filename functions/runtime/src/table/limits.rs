//! Limits of what one person may create within an hour.
//!
//! They need no write of their own. What a person created is counted in the index that lists it, newest first and no further than the
//! limit, while the handler reads what it needs anyway. A global index is a moment behind its table, so the limit is approximate:
//! requests within about a second of each other can exceed it.
//!
//! Deleting makes no room for more, or a person could comment and delete for ever, and each comment could send a mail. So a tombstone
//! stays in the index ([`Counted`]), in a partition of its own that no list shows. A repeat of an earlier request is never
//! refused, because it creates nothing.

use std::num::NonZeroU32;

use futures::future::try_join_all;
use kernel::{clock::Timestamp, problem::Problem};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use uuid::Uuid;

use super::{Error, Key, List, Table};
use crate::environment;

/// The time within which creations count, in seconds: an hour.
const WINDOW: i64 = 60 * 60;

/// How many of something one person may create within an hour.
#[derive(Clone, Copy, Debug)]
pub struct HourlyLimit {
    count: NonZeroU32,
    what: &'static str,
}

impl HourlyLimit {
    /// The limit in an environment variable, of what is called `what` ("posts").
    pub fn from_environment(variable: &'static str, what: &'static str) -> Result<Self, crate::Error> {
        let value = environment::required(variable)?;
        let count = value.parse().map_err(|error| format!("{variable} is not a limit: {error}"))?;
        Ok(Self { count, what })
    }

    /// What is left for a person whose creations within the last hour have these positions in their lists.
    fn allowance(self, mut positions: Vec<String>, now: Timestamp) -> Result<Allowance, Error> {
        let Self { count, what } = self;
        positions.sort_unstable_by(|one, other| other.cmp(one));
        // The next one is possible when so many have left the window that one fewer than the limit are in it.
        let Some(last) = positions.get(count.get() as usize - 1) else { return Ok(Allowance::Left) };
        let created = last.split('#').next().unwrap_or_default().to_owned();
        let created = Timestamp::try_from(created).map_err(|error| Error::Broken(error.into()))?;
        let wait = created.plus_seconds(WINDOW).since(now);
        let seconds = u32::try_from(wait.as_micros().div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1);
        Ok(Allowance::UsedUp { limit: count.get(), what, seconds })
    }
}

/// What a person may still create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// At least one more.
    Left,
    /// Nothing.
    UsedUp {
        /// How many they may create within an hour.
        limit: u32,
        /// What they are called ("posts").
        what: &'static str,
        /// When the next one is possible, in seconds from now.
        seconds: u32,
    },
}

/// The place of a deleted aggregate in the index `by_author`, where it still counts against its author's limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The partition of the index: see [`with_deleted`].
    author_id: String,
    /// The sort key of the index.
    created: String,
}

impl Counted {
    /// The place of what this author created, with the position that it had in the list of the author's.
    pub fn by(author: Uuid, created: &str) -> Self {
        Self { author_id: partition_of_deleted(&author.to_string()), created: created.to_owned() }
    }
}

/// An author's list, and the list of what was deleted from it.
pub fn with_deleted(list: List) -> [List; 2] {
    let mut deleted = list.clone();
    deleted.partition.1 = partition_of_deleted(&list.partition.1);
    [list, deleted]
}

fn partition_of_deleted(author: &str) -> String {
    format!("deleted#{author}")
}

impl Table {
    /// What a person may still create, whose creations are in these lists. The lists' positions begin with a time and `#`.
    pub async fn allowance(&self, lists: &[List], limit: HourlyLimit) -> Result<Allowance, Error> {
        let now = Timestamp::now();
        let since = now.plus_seconds(-WINDOW).to_string();
        let found = lists.iter().map(|list| self.newest_since(list, &since, limit.count.get() as usize));
        limit.allowance(try_join_all(found).await?.concat(), now)
    }

    /// 429 if nothing is left, unless there is an item under `key`, the key of what the request creates: then it is a repeat.
    pub async fn require_allowance(&self, allowance: Allowance, key: Key) -> Result<(), Problem> {
        let Allowance::UsedUp { limit, what, seconds } = allowance else { return Ok(()) };
        match self.get::<IgnoredAny>(key).await? {
            Some(_) => Ok(()),
            None => Err(Problem::rate_limited(limit, what, seconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000;

    fn limit(count: u32) -> HourlyLimit {
        HourlyLimit { count: NonZeroU32::new(count).unwrap(), what: "posts" }
    }

    /// The position of what was created so many microseconds before now.
    fn created(before: i64) -> String {
        format!("{}#{}", Timestamp::from_microsecond(NOW - before), Uuid::nil())
    }

    fn allowance(count: u32, before: &[i64]) -> Allowance {
        let positions = before.iter().copied().map(created).collect();
        limit(count).allowance(positions, Timestamp::from_microsecond(NOW)).unwrap()
    }

    fn used_up(limit: u32, seconds: u32) -> Allowance {
        Allowance::UsedUp { limit, what: "posts", seconds }
    }

    #[test]
    fn something_is_left_until_as_many_were_created_as_the_limit_says() {
        assert_eq!(allowance(2, &[]), Allowance::Left);
        assert_eq!(allowance(2, &[1]), Allowance::Left);
        assert_eq!(allowance(2, &[1, 2]), used_up(2, 3600));
    }

    #[test]
    fn the_wait_ends_when_fewer_than_the_limit_are_within_the_hour() {
        let minute = 60_000_000;
        assert_eq!(allowance(1, &[50 * minute]), used_up(1, 600));
        // In any order; the third oldest has to leave, too, before there is room for another.
        assert_eq!(allowance(2, &[50 * minute, 10 * minute, 40 * minute, 30 * minute]), used_up(2, 1800));
        // A client that waits for whole seconds is not refused again, and is never told to wait for none.
        assert_eq!(allowance(1, &[50 * minute - 1]), used_up(1, 601));
        assert_eq!(allowance(1, &[60 * minute]), used_up(1, 1));
    }

    #[test]
    fn what_is_deleted_is_in_a_partition_that_no_list_of_an_author_shows() {
        let author = Uuid::from_u128(7);
        let partition = ("author_id", author.to_string());
        let list = List { index: "by_author", partition, sort: "created", newest_first: true };
        let counted = Counted::by(author, "2026-05-04T09:30:00.123456Z#1");
        assert_ne!(counted.author_id, list.partition.1);
        assert_eq!(counted.author_id, with_deleted(list)[1].partition.1);
    }
}
