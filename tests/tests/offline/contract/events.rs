//! The documents of the events: `events/schemas`, `events/released` and `infra/asyncapi.json`. Every consumer, old or new, can
//! read every event, old or new.

use std::collections::{BTreeMap, BTreeSet};

use system_tests::{
    catalogue::{self, consumers, examples, through_code},
    files,
    released::{self, FOLDER, SUMS, sum},
};

#[test]
fn every_schema_is_compatible_with_all_its_released_revisions() {
    let incompatible = released::incompatible();
    assert!(incompatible.is_empty(), "\n{}", incompatible.join("\n"));
}

#[test]
fn there_is_one_schema_and_one_example_for_each_event_and_no_others() {
    let expected: Vec<String> =
        catalogue::schemas().into_keys().map(|name| format!("{}.json", name.stem())).collect();
    assert_eq!(files::names("events/schemas"), expected);
    assert_eq!(files::names("events/examples"), expected);
}

#[test]
fn released_files_never_change() {
    let sums = files::text(&format!("{FOLDER}/{SUMS}"));
    let checksums: BTreeMap<&str, &str> = sums
        .lines()
        .map(|line| line.split_once("  ").expect("a checksum and a file"))
        .map(|(sum, file)| (file, sum))
        .collect();
    let found: BTreeSet<String> = files::names(FOLDER).into_iter().filter(|file| file != SUMS).collect();
    let listed: BTreeSet<String> = checksums.keys().map(|&file| file.to_owned()).collect();
    assert_eq!(found, listed, "a file in {FOLDER} was added or removed by hand");
    for (file, expected) in checksums {
        assert_eq!(sum(&files::text(&format!("{FOLDER}/{file}"))), expected, "{FOLDER}/{file} was changed");
    }
}

#[test]
fn the_code_reads_every_released_example() {
    let current = catalogue::schemas();
    let revisions = released::all();
    assert!(revisions.len() >= current.len(), "not every event has been released");
    for revision in revisions {
        let (file, example) = (&revision.file, revision.example());
        let read = through_code(example).unwrap_or_else(|error| {
            panic!(
                "{FOLDER}/{file}: the code cannot read this any more ({error}). Make the field optional, or publish it with \
                 a new schemaversion, side by side with this one."
            )
        });
        assert_eq!(read, *example, "{FOLDER}/{file}");
        let old = jsonschema::options().should_validate_formats(true).build(&revision.schema).unwrap();
        assert!(old.is_valid(example), "{FOLDER}/{file}: {:?}", old.validate(example));
        let Some(schema) = current.get(&revision.name) else { continue };
        let new = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        assert!(new.is_valid(example), "{FOLDER}/{file}: {:?}", new.validate(example));
    }
}

#[test]
fn every_rule_matches_published_events_and_asyncapi_lists_each_consumer_once() {
    let published: BTreeSet<String> = catalogue::schemas().into_keys().map(|name| name.event).collect();
    let consumers = consumers();
    assert!(consumers.keys().all(|event| published.contains(event)), "{consumers:?}");
    let document = catalogue::asyncapi(&examples(), &consumers);
    let operations = document["operations"].as_object().unwrap();
    let listed: usize = operations
        .values()
        .filter(|operation| operation["action"] == "receive")
        .map(|operation| operation["messages"].as_array().unwrap().len())
        .sum();
    assert_eq!(listed, consumers.values().map(Vec::len).sum::<usize>());
    assert!(listed >= 15, "too few rules were found: {listed}");
}
