//! Tests that change what others use take turns.
//!
//! A test names the functions whose settings it changes, or whose queue it stops, and those that it needs as they were
//! deployed. It gets all of them at once, as soon as they are free. A waiting test holds nothing, so that no two tests wait
//! for each other, and no test waits for one that has not begun.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// What stands for the local cloud as a whole: every test needs it, and the one that restarts it changes it.
pub const CLOUD: &str = "the local cloud";

/// What stands for the processors: a test that does many things at once changes it, so that no two of these overlap. Together
/// they would wait for each other for longer than functions wait for AWS.
pub const PROCESSORS: &str = "the processors";

/// The turns under way.
static TURNS: Mutex<Vec<Arc<Things>>> = Mutex::new(Vec::new());
static ENDED: Notify = Notify::const_new();

fn turns() -> MutexGuard<'static, Vec<Arc<Things>>> {
    // No code panics while it holds this.
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a test uses, by names: everything that it needs or changes, and what it changes of that.
#[derive(Debug)]
struct Things {
    used: BTreeSet<String>,
    changed: BTreeSet<String>,
}

impl Things {
    /// Whether one test changes what the other uses.
    fn conflict(&self, other: &Self) -> bool {
        !self.changed.is_disjoint(&other.used) || !self.used.is_disjoint(&other.changed)
    }
}

/// A test's turn, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct Turn(Arc<Things>);

/// Waits until no other test changes what this one needs, or uses what this one changes.
pub async fn turn(changes: &[&str], needs: &[&str]) -> Turn {
    let owned = |names: &[&str]| names.iter().copied().map(str::to_owned).collect();
    let things =
        Arc::new(Things { used: owned(&[changes, needs, &[CLOUD]].concat()), changed: owned(changes) });
    loop {
        // Before the check, so that no turn ends unnoticed in between.
        let ended = ENDED.notified();
        if let Some(turn) = begin(&things) {
            return turn;
        }
        ended.await;
    }
}

/// Begins a turn, unless a test whose turn it is conflicts.
fn begin(things: &Arc<Things>) -> Option<Turn> {
    let mut turns = turns();
    if turns.iter().any(|other| other.conflict(things)) {
        return None;
    }
    turns.push(Arc::clone(things));
    Some(Turn(Arc::clone(things)))
}

impl Drop for Turn {
    fn drop(&mut self) {
        turns().retain(|things| !Arc::ptr_eq(things, &self.0));
        ENDED.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Whether a test that changes and needs this would begin now.
    async fn begins(changes: &[&str], needs: &[&str]) -> bool {
        timeout(Duration::ZERO, turn(changes, needs)).await.is_ok()
    }

    #[tokio::test]
    async fn a_thing_is_changed_by_one_test_and_needed_by_none_beside_it() {
        let change = turn(&["a"], &["a", "b"]).await;
        assert!(!begins(&["a"], &[]).await);
        assert!(!begins(&[], &["a"]).await);
        assert!(!begins(&["b"], &[]).await);
        assert!(!begins(&[CLOUD], &[]).await);
        assert!(begins(&["c"], &["b"]).await);
        drop(change);
        assert!(begins(&["a"], &["b"]).await);
    }

    #[tokio::test]
    async fn a_test_that_waits_is_in_nobodys_way_and_begins_when_the_last_that_needs_a_thing_has_ended() {
        let (first, second) = (turn(&[], &["d"]).await, turn(&[], &["d"]).await);
        let waiting = turn(&["d", "e"], &[]);
        tokio::pin!(waiting);
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        assert!(begins(&["e"], &["d"]).await);
        drop(first);
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        drop(second);
        let change = timeout(Duration::from_secs(5), waiting).await.expect("it begins");
        assert!(!begins(&[], &["e"]).await);
        drop(change);
    }
}
