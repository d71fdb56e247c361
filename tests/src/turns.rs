//! Tests that change what others use take turns.
//!
//! A test names the functions whose settings it changes, or whose queue it stops, and those that it needs as they were
//! deployed. It waits for both at once and before it does anything, so that no two tests wait for each other.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// What stands for the local cloud as a whole: every test needs it, and the one that restarts it changes it.
pub const CLOUD: &str = "the local cloud";

/// What stands for the processors: a test that does many things at once changes it, so that no two of these overlap. Together
/// they would wait for each other for longer than functions wait for AWS.
pub const PROCESSORS: &str = "the processors";

static LOCKS: LazyLock<Mutex<BTreeMap<String, Arc<RwLock<()>>>>> = LazyLock::new(Mutex::default);

/// A test's turn, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct Turn {
    _changed: Vec<OwnedRwLockWriteGuard<()>>,
    _needed: Vec<OwnedRwLockReadGuard<()>>,
}

/// Waits until no other test changes what this one needs, or uses what this one changes.
pub async fn turn(changes: &[&str], needs: &[&str]) -> Turn {
    let needs = needs.iter().chain(&[CLOUD]).map(|name| (*name, false));
    let changes = changes.iter().map(|name| (*name, true));
    // In the order of their names, which is the same for all tests. Who changes a thing needs it as well.
    let all: BTreeMap<&str, bool> = needs.chain(changes).collect();
    let (mut changed, mut needed) = (Vec::new(), Vec::new());
    for (name, change) in all {
        let lock = Arc::clone(LOCKS.lock().unwrap().entry(name.to_owned()).or_default());
        if change {
            changed.push(lock.write_owned().await);
        } else {
            needed.push(lock.read_owned().await);
        }
    }
    Turn { _changed: changed, _needed: needed }
}
