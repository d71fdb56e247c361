//! The table of what was observed.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{dependencies::Dependency, outage::Mode};

/// The statuses of answers, with their numbers.
pub(crate) type Statuses = BTreeMap<u16, usize>;

/// What was observed of one function in one outage.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) dependency: Dependency,
    pub(crate) function: String,
    pub(crate) mode: Mode,
    /// Calls that were refused or swallowed.
    pub(crate) lost: usize,
    /// What people got from this function, if it is an endpoint, or from all endpoints.
    pub(crate) seen: Statuses,
    /// From the end of the last outage of the run until all effects were there.
    pub(crate) healed: Duration,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Adds rows to the table, and prints all rows so far.
pub(crate) fn add(rows: Vec<Row>) {
    // Nothing panics while it holds the lock, so the state is valid.
    let mut all = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    all.extend(rows);
    let mut table = format!(
        "\n{:<12} {:<26} {:<9} {:>6}  {:<30} {:>9}\n",
        "dependency", "function", "mode", "calls", "people saw", "healed in"
    );
    for row in all.iter() {
        let seen: Vec<String> =
            row.seen.iter().map(|(status, times)| format!("{times} × {status}")).collect();
        let (dependency, mode) = (format!("{:?}", row.dependency), format!("{:?}", row.mode));
        let (seen, healed) = (seen.join(", "), row.healed.as_secs_f64());
        writeln!(
            table,
            "{dependency:<12} {:<26} {mode:<9} {:>6}  {seen:<30} {healed:>7.1} s",
            row.function, row.lost
        )
        .unwrap();
    }
    println!("{table}");
}
