//! A change of many items because of one event, for example deleting all comments of a deleted post.
//!
//! The work is done page by page. Before the function's time runs out, the cascade stops and returns its [`Progress`], which a new
//! message carries to the next invocation ([`queue`](super::queue)). If the function is killed, at most the work of one invocation
//! is repeated.
//!
//! An item whose change fails does not hold up the others: the pass goes on to its end, and the next pass comes back for what failed,
//! as long as fewer fail than in the pass before. Only then does the message fail, and is retried like any other.
//! After a pass without failures a last one follows, for items that were written meanwhile.

use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::{
    deadline::Deadline,
    error::chain,
    table::{self, IndexEntry, Key, List, Table},
};

/// If less time than this is left, another invocation continues.
const PAGE_TIME: Duration = Duration::from_secs(4);
/// The part of the time that is kept for returning the progress.
const RESERVED_TIME: Duration = Duration::from_secs(1);
/// The pause before the last pass of a cascade, in seconds. Longer than an endpoint's time-out (10 s) plus the lag of an
/// index, so that the pass finds items that were written during the first.
const LAST_PASS_AFTER: i32 = 30;
/// The pause before a pass that comes back for what failed, in seconds.
const RETRY_AFTER: i32 = 2;
/// The number of items that a cascade reads at once.
const PAGE: u32 = 100;
/// Maximum number of items that a cascade changes concurrently.
const WIDTH: usize = 16;

/// The progress of a cascade over many items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 for the passes over the items, 1 for the last one.
    pub pass: u32,
    /// The position of the last item that was visited in this pass.
    pub after: Option<String>,
    /// How many changes have failed in this pass.
    #[serde(default)]
    pub failed: u64,
    /// How many failed in the pass before, if this one comes back for them.
    #[serde(default)]
    pub failed_before: Option<u64>,
}

/// What follows the end of a pass.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Another pass.
    Pass(Progress),
    /// Nothing: everything is changed.
    Done,
    /// Nothing yet: as many changes failed as in the pass before.
    Stuck,
}

impl Progress {
    /// The pause before the work goes on, in seconds.
    pub(super) fn delay(&self) -> i32 {
        match self {
            Self { after: None, failed_before: Some(_), .. } => RETRY_AFTER,
            Self { after: None, pass: 1, .. } => LAST_PASS_AFTER,
            _ => 0,
        }
    }

    fn next(&self) -> Next {
        let Self { pass, failed, failed_before, .. } = *self;
        if failed > 0 {
            let fewer = failed_before.is_none_or(|before| failed < before);
            return if fewer {
                Next::Pass(Self { pass, failed_before: Some(failed), ..Self::default() })
            } else {
                Next::Stuck
            };
        }
        if pass == 0 { Next::Pass(Self { pass: 1, ..Self::default() }) } else { Next::Done }
    }
}

/// Goes through a list from where an earlier invocation stopped, and applies a change to each item. `apply` must be idempotent.
/// Returns its progress if there is more to do, otherwise `None`. It is an error only if nothing has moved.
pub async fn run(
    table: &Table,
    list: &List,
    start: Progress,
    deadline: Deadline,
    apply: impl AsyncFn(Key) -> Result<(), table::Error>,
) -> Result<Option<Progress>, table::Error> {
    let deadline = deadline.reserving(RESERVED_TIME);
    let mut progress = start.clone();
    loop {
        // Boxed, here and below, so that the future of a cascade does not contain sixteen others.
        let page = table.page::<IndexEntry>(list, progress.after.as_deref(), PAGE).boxed_local();
        let entries = match deadline.bound(page).await.map_err(table::Error::from).flatten() {
            Ok(entries) => entries,
            // What was done before counts: the next message starts with full patience.
            Err(_) if progress != start => return Ok(Some(progress)),
            Err(error) => return Err(error),
        };
        let end = entries.end().map(str::to_owned);
        let failures: Vec<String> = stream::iter(entries.into_items())
            .map(async |entry| {
                let changed = deadline.bound(apply(entry.key).boxed_local()).await;
                changed.map_err(table::Error::from).flatten().err().map(|error| chain(&error))
            })
            .buffer_unordered(WIDTH)
            .filter_map(async |failure| failure)
            .collect()
            .await;
        if let Some(cause) = failures.first() {
            tracing::warn!(
                count = failures.len(),
                cause,
                "items of a page could not be changed; another pass follows"
            );
        }
        progress.failed += failures.len() as u64;
        if let Some(end) = end {
            progress.after = Some(end);
        } else {
            return match progress.next() {
                Next::Pass(next) => Ok(Some(next)),
                Next::Done => Ok(None),
                Next::Stuck => {
                    let cause = failures.into_iter().next().unwrap_or_default();
                    let count = progress.failed;
                    Err(table::Error::Unavailable(
                        format!("{count} items could not be changed: {cause}").into(),
                    ))
                }
            };
        }
        if deadline.time_left() < PAGE_TIME {
            return Ok(Some(progress));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(failed: u64, failed_before: Option<u64>) -> Progress {
        Progress { pass: 0, after: Some("z".to_owned()), failed, failed_before }
    }

    #[test]
    fn a_pass_without_failures_is_followed_by_the_last_after_a_pause_and_that_by_nothing() {
        let Next::Pass(last) = pass(0, Some(3)).next() else { panic!("another pass") };
        assert_eq!(last, Progress { pass: 1, ..Progress::default() });
        assert_eq!(last.delay(), LAST_PASS_AFTER);
        assert_eq!(Progress { after: Some("z".to_owned()), ..last }.next(), Next::Done);
    }

    #[test]
    fn failures_are_retried_in_another_pass_as_long_as_they_become_fewer() {
        let Next::Pass(second) = pass(3, None).next() else { panic!("another pass") };
        assert_eq!(second, Progress { failed_before: Some(3), ..Progress::default() });
        assert_eq!(second.delay(), RETRY_AFTER);
        assert!(matches!(pass(2, Some(3)).next(), Next::Pass(_)));
        assert_eq!(pass(3, Some(3)).next(), Next::Stuck);
        let last = Progress { pass: 1, ..pass(1, None) };
        assert!(matches!(last.next(), Next::Pass(Progress { pass: 1, failed_before: Some(1), .. })));
    }

    #[test]
    fn the_progress_of_a_message_that_an_older_version_sent_is_read() {
        let read: Progress = serde_json::from_str(r#"{"pass":1,"after":"a"}"#).unwrap();
        assert_eq!(read, Progress { pass: 1, after: Some("a".to_owned()), failed: 0, failed_before: None });
        assert_eq!(read.delay(), 0);
    }
}
