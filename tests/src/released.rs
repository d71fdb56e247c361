//! `events/released/`: every released revision of every event's schema, with an example. The files there never change.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    catalogue::{self, Name},
    compatibility::{bare, breaks},
    files,
};

/// The folder.
pub const FOLDER: &str = "events/released";
/// The file with the checksums of the others.
pub const SUMS: &str = "SHA256SUMS";

/// A released revision of an event's schema.
pub struct Revision {
    /// `post.created.v1.2.json`: the second revision of version 1.
    pub file: String,
    /// The event.
    pub name: Name,
    /// The number of the revision, from 1.
    pub number: u32,
    /// The schema.
    pub schema: Value,
}

impl Revision {
    /// Its example.
    pub fn example(&self) -> &Value {
        &self.schema["examples"][0]
    }
}

/// All released revisions, the oldest of an event first.
pub fn all() -> Vec<Revision> {
    let files = files::names(FOLDER).into_iter().filter(|file| file != SUMS);
    let mut revisions: Vec<Revision> = files
        .map(|file| {
            let parts: Vec<&str> = file.rsplitn(4, '.').collect();
            let ["json", number, version, event] = parts[..] else {
                panic!("{FOLDER}/{file}: the name is not <event>.v<version>.<revision>.json")
            };
            let version = version.strip_prefix('v').and_then(|version| version.parse().ok());
            let name = Name { event: event.to_owned(), version: version.expect("a version") };
            let (number, schema) =
                (number.parse().expect("a revision"), files::json(&format!("{FOLDER}/{file}")));
            Revision { file, name, number, schema }
        })
        .collect();
    revisions.sort_by(|one, other| (&one.name, one.number).cmp(&(&other.name, other.number)));
    revisions
}

/// How the current schemas are incompatible with released ones: a sentence for each field.
pub fn incompatible() -> Vec<String> {
    let current = catalogue::schemas();
    let mut found = Vec::new();
    for Revision { file, name, schema, .. } in all() {
        match current.get(&name) {
            Some(current) => found.extend(breaks(&name.event, &schema, current)),
            None => found.push(format!(
                "{}: version {} was released ({FOLDER}/{file}), but the code does not know it any more. Keep it beside the \
                 new one, because queues and the archive still hold events of it.",
                name.event, name.version
            )),
        }
    }
    found
}

/// The current revisions that are not in the folder yet, and the file of checksums with theirs added.
pub(crate) fn next() -> BTreeMap<String, String> {
    let (released, examples) = (all(), catalogue::examples());
    let mut files = BTreeMap::new();
    let mut sums = files::text(&format!("{FOLDER}/{SUMS}"));
    for (name, schema) in catalogue::schemas() {
        let last = released.iter().rfind(|revision| revision.name == name);
        if last.is_some_and(|last| bare(&last.schema) == bare(&schema)) {
            continue;
        }
        let file = format!("{}.{}.json", name.stem(), last.map_or(0, |last| last.number) + 1);
        let mut revision = schema;
        revision["examples"] = json!([examples[&name]]);
        let text = files::pretty(&revision);
        writeln!(sums, "{}  {file}", sum(&text)).unwrap();
        files.insert(format!("{FOLDER}/{file}"), text);
    }
    files.insert(format!("{FOLDER}/{SUMS}"), sums);
    files
}

/// A text's SHA-256 checksum, as the file of checksums has it.
pub fn sum(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}
