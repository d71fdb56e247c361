//! The committed generated files are up to date.

use std::fs;

use system_tests::{
    files,
    generated::{self, COMMAND},
};

#[test]
fn the_committed_files_match_the_code() {
    let generated = generated::all().unwrap_or_else(|incompatible| panic!("\n{}", incompatible.join("\n")));
    let stale: Vec<String> = generated
        .iter()
        .filter_map(|(path, text)| {
            let Ok(committed) = fs::read_to_string(files::at(path)) else {
                return Some(format!("{path} is missing: run `{COMMAND}`."));
            };
            let line = first_difference(&committed, text)?;
            Some(format!("{path} does not match the code, from line {line} on: run `{COMMAND}`."))
        })
        .collect();
    assert!(stale.is_empty(), "\n{}", stale.join("\n"));
}

/// The first line, from 1, in which two texts differ.
fn first_difference(one: &str, other: &str) -> Option<usize> {
    if one == other {
        return None;
    }
    let same = one.lines().zip(other.lines()).take_while(|(one, other)| one == other).count();
    Some(same + 1)
}
