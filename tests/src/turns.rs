//! Tests that change what others use take turns.
//!
//! A test names the functions whose settings it changes, or whose queue it stops, and those that it needs as they were
//! deployed. It gets all of them at once, as soon as they are free. A waiting test holds nothing. Therefore no two tests wait
//! for each other, and no test waits for one that has not begun.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The local cloud as a whole: every test needs it, and a test that restarts it changes it.
pub const CLOUD: &str = "the local cloud";

/// The processors: a test that does many things at once changes them, so that no two such tests overlap. Together they would
/// slow each other down so much that functions' calls of AWS time out.
pub const PROCESSORS: &str = "the processors";

/// The turns under way.
static TURNS: Mutex<Vec<Arc<Claim>>> = Mutex::new(Vec::new());
static ENDED: Notify = Notify::const_new();

fn turns() -> MutexGuard<'static, Vec<Arc<Claim>>> {
    // Nothing panics while it holds the lock, so the state is valid.
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of what a test uses, and of what it changes. It also uses what it changes.
#[derive(Debug)]
struct Claim {
    used: BTreeSet<String>,
    changed: BTreeSet<String>,
}

impl Claim {
    /// Whether one test changes what the other uses.
    fn conflict(&self, other: &Self) -> bool {
        !self.changed.is_disjoint(&other.used) || !self.used.is_disjoint(&other.changed)
    }
}

/// A test's turn, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct Turn(Arc<Claim>);

/// Waits until no other test changes what this one needs, or uses what this one changes.
pub async fn turn(changes: &[&str], needs: &[&str]) -> Turn {
    let owned = |names: &[&str]| names.iter().copied().map(str::to_owned).collect();
    let claim =
        Arc::new(Claim { used: owned(&[changes, needs, &[CLOUD]].concat()), changed: owned(changes) });
    loop {
        // Created before the check, so that no turn ends unnoticed in between.
        let ended = ENDED.notified();
        if let Some(turn) = begin(&claim) {
            return turn;
        }
        ended.await;
    }
}

/// Begins a turn, unless it conflicts with one that is under way.
fn begin(claim: &Arc<Claim>) -> Option<Turn> {
    let mut turns = turns();
    if turns.iter().any(|other| other.conflict(claim)) {
        return None;
    }
    turns.push(Arc::clone(claim));
    Some(Turn(Arc::clone(claim)))
}

impl Drop for Turn {
    fn drop(&mut self) {
        turns().retain(|claim| !Arc::ptr_eq(claim, &self.0));
        ENDED.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Whether a test that changes and needs these would begin now.
    async fn begins(changes: &[&str], needs: &[&str]) -> bool {
        timeout(Duration::ZERO, turn(changes, needs)).await.is_ok()
    }

    #[tokio::test]
    async fn no_test_begins_while_another_changes_what_it_uses() {
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
    async fn a_waiting_test_blocks_no_other_and_begins_once_all_it_uses_is_free() {
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
