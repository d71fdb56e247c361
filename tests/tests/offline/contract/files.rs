//! The committed files.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// What writes the generated files anew.
pub(crate) const UPDATE: &str = "UPDATE=1 cargo test --workspace --test contract";

/// A file or folder of the repository.
pub(crate) fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Whether generated files are to be written, not compared.
pub(crate) fn updating() -> bool {
    env::var_os("UPDATE").is_some_and(|value| value == "1")
}

/// A file's text.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file's JSON.
pub(crate) fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of a folder's files.
pub(crate) fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(at(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Asserts that a committed file is what the code generates, or writes it.
#[track_caller]
pub(crate) fn is_current(path: &str, generated: &str) {
    if updating() {
        // At once: other tests read it meanwhile.
        let new = at(path).with_extension("new");
        fs::write(&new, generated).unwrap_or_else(|error| panic!("{path}: {error}"));
        fs::rename(new, at(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let committed = fs::read_to_string(at(path)).unwrap_or_default();
    if let Some(line) = first_difference(&committed, generated) {
        panic!("{path} is not what the code says, from line {line} on. Write it anew: {UPDATE}");
    }
}

/// The first line, from 1, in which two texts differ.
fn first_difference(one: &str, other: &str) -> Option<usize> {
    if one == other {
        return None;
    }
    let same = one.lines().zip(other.lines()).take_while(|(one, other)| one == other).count();
    Some(same + 1)
}

/// JSON as it is committed.
pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}
