//! `events/schemas`, `events/released`, `infra/asyncapi.json` and `events/README.md`: readable for everybody who could ever
//! read an event.

use std::collections::{BTreeMap, BTreeSet};

use system_tests::{
    catalogue::{self, consumers, examples, through_code},
    files,
    released::{self, FOLDER, SUMS, sum},
};

#[test]
fn no_event_changes_in_a_way_that_somebody_could_not_read() {
    let unreadable = released::unreadable();
    assert!(unreadable.is_empty(), "\n{}", unreadable.join("\n"));
}

#[test]
fn there_is_a_schema_and_an_example_of_each_event_and_of_no_other() {
    let expected: Vec<String> =
        catalogue::schemas().into_keys().map(|name| format!("{}.json", name.stem())).collect();
    assert_eq!(files::names("events/schemas"), expected);
    assert_eq!(files::names("events/examples"), expected);
}

#[test]
fn what_was_released_is_as_it_was() {
    let sums = files::text(&format!("{FOLDER}/{SUMS}"));
    let noted: BTreeMap<&str, &str> = sums
        .lines()
        .map(|line| line.split_once("  ").expect("a checksum and a file"))
        .map(|(sum, file)| (file, sum))
        .collect();
    let there: BTreeSet<String> = files::names(FOLDER).into_iter().filter(|file| file != SUMS).collect();
    let names: BTreeSet<String> = noted.keys().map(|&file| file.to_owned()).collect();
    assert_eq!(there, names, "a file in {FOLDER} came or went by hand");
    for (file, expected) in noted {
        assert_eq!(sum(&files::text(&format!("{FOLDER}/{file}"))), expected, "{FOLDER}/{file} was changed");
    }
}

#[test]
fn the_code_reads_every_example_that_was_ever_released() {
    let present = catalogue::schemas();
    let revisions = released::all();
    assert!(revisions.len() >= present.len(), "examples were read");
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
        let Some(schema) = present.get(&revision.name) else { continue };
        let new = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        assert!(new.is_valid(example), "{FOLDER}/{file}: {:?}", new.validate(example));
    }
}

#[test]
fn every_rule_listens_to_events_that_are_published_and_every_reaction_is_told_once() {
    let published: BTreeSet<String> = catalogue::schemas().into_keys().map(|name| name.event).collect();
    let consumers = consumers();
    assert!(consumers.keys().all(|event| published.contains(event)), "{consumers:?}");
    let document = catalogue::asyncapi(&examples(), &consumers);
    let operations = document["operations"].as_object().unwrap();
    let told: usize = operations
        .values()
        .filter(|operation| operation["action"] == "receive")
        .map(|operation| operation["messages"].as_array().unwrap().len())
        .sum();
    assert_eq!(told, consumers.values().map(Vec::len).sum::<usize>());
    assert!(told >= 15, "rules were read: {told}");
}
