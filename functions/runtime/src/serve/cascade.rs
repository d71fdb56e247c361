//! A change of many items because of one event, for example deleting all comments of a deleted post.
//!
//! The work is done page by page. Before the function's time runs out, the cascade stops and returns its [`Progress`], which a new
//! message carries to the next invocation ([`queue`](super::queue)). If the function is killed, at most the work of one invocation
//! is repeated.
//! After the first pass over the items a second one follows, for items that were written during the first.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::{
    deadline::Deadline,
    table::{self, IndexEntry, Key, List, Table},
};

/// If less time than this is left, another invocation continues.
const RESERVED_TIME: Duration = Duration::from_secs(5);
/// The pause between the two passes of a cascade, in seconds. Longer than an endpoint's time-out (10 s) plus the lag of an
/// index, so that the second pass finds items that were written during the first.
const SECOND_PASS_AFTER: i32 = 30;
/// The number of items that a cascade reads at once.
const PAGE: u32 = 100;
/// Maximum number of items that a cascade changes concurrently.
const WIDTH: usize = 16;

/// The progress of a cascade over many items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 for the first pass over the items, 1 for the second.
    pub pass: u32,
    /// The position of the last item that was changed in this pass.
    pub after: Option<String>,
}

impl Progress {
    /// The pause before the work goes on, in seconds.
    pub(super) fn delay(&self) -> i32 {
        let starts_second_pass = self.pass == 1 && self.after.is_none();
        if starts_second_pass { SECOND_PASS_AFTER } else { 0 }
    }
}

/// Goes through a list from where an earlier invocation stopped, and applies a change to each item. `apply` must be idempotent.
/// Returns its progress if there is more to do, otherwise `None`.
pub async fn run(
    table: &Table,
    list: &List,
    mut progress: Progress,
    deadline: Deadline,
    apply: impl AsyncFn(Key) -> Result<(), table::Error>,
) -> Result<Option<Progress>, table::Error> {
    loop {
        let entries = table.page::<IndexEntry>(list, progress.after.as_deref(), PAGE).await?;
        let end = entries.end().map(str::to_owned);
        let work = stream::iter(entries.into_items()).map(|entry| apply(entry.key));
        work.buffer_unordered(WIDTH).try_collect::<()>().await?;
        match end {
            Some(end) => progress.after = Some(end),
            None if progress.pass == 0 => return Ok(Some(Progress { pass: 1, after: None })),
            None => return Ok(None),
        }
        if deadline.time_left() < RESERVED_TIME {
            return Ok(Some(progress));
        }
    }
}
