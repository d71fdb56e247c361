//! Tests that change what others use take turns.
//!
//! A test names the functions whose settings it changes, or whose queue it stops, and those that it needs as they were
//! deployed. It takes all of them at once, as soon as it can: who waits holds nothing, so that no two tests wait for each
//! other, and no test waits for one that has not begun.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// What stands for the local cloud as a whole: every test needs it, and the one that restarts it changes it.
pub const CLOUD: &str = "the local cloud";

/// What stands for the processors: a test that does many things at once changes it, so that no two of these overlap. Together
/// they would wait for each other for longer than functions wait for AWS.
pub const PROCESSORS: &str = "the processors";

/// How a thing is used: by how many tests as it is, or by one that changes it.
enum Use {
    Needed(usize),
    Changed,
}

static IN_USE: Mutex<BTreeMap<String, Use>> = Mutex::new(BTreeMap::new());
static FREED: Notify = Notify::const_new();

fn in_use() -> MutexGuard<'static, BTreeMap<String, Use>> {
    // Nothing panics while it holds this.
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A test's turn, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct Turn {
    changed: BTreeSet<String>,
    needed: BTreeSet<String>,
}

/// Waits until no other test changes what this one needs, or uses what this one changes.
pub async fn turn(changes: &[&str], needs: &[&str]) -> Turn {
    loop {
        // Before anybody looks: what is freed in between is not missed.
        let freed = FREED.notified();
        if let Some(turn) = Turn::begin(changes, needs) {
            return turn;
        }
        freed.await;
    }
}

impl Turn {
    /// Takes everything, or nothing where another test is in the way.
    fn begin(changes: &[&str], needs: &[&str]) -> Option<Self> {
        let changed: BTreeSet<String> = changes.iter().copied().map(str::to_owned).collect();
        // Who changes a thing needs it as well.
        let needed = needs.iter().copied().chain([CLOUD]).filter(|name| !changed.contains(*name));
        let needed: BTreeSet<String> = needed.map(str::to_owned).collect();
        let mut uses = in_use();
        if changed.iter().any(|name| uses.contains_key(name))
            || needed.iter().any(|name| matches!(uses.get(name), Some(Use::Changed)))
        {
            return None;
        }
        for name in &needed {
            if let Use::Needed(tests) = uses.entry(name.clone()).or_insert(Use::Needed(0)) {
                *tests += 1;
            }
        }
        uses.extend(changed.iter().map(|name| (name.clone(), Use::Changed)));
        Some(Self { changed, needed })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut uses = in_use();
        for name in self.changed.iter().chain(&self.needed) {
            match uses.get_mut(name) {
                Some(Use::Needed(tests)) if *tests > 1 => *tests -= 1,
                _ => drop(uses.remove(name)),
            }
        }
        drop(uses);
        FREED.notify_waiters();
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
