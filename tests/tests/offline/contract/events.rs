//! `events/schemas`, `events/released`, `infra/asyncapi.json` and `events/README.md`: generated, and readable for everybody
//! who could ever read an event.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use system_tests::{
    catalogue::{self, Consumer, Name, publisher, through_code},
    compatibility::{bare, breaks},
};

use super::{files, templates};

const RELEASED: &str = "events/released";
const SUMS: &str = "SHA256SUMS";

/// Held while files that others read are written, with `UPDATE=1`.
static FILES: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One revision of an event's schema as it was released, with the example that it had.
struct Revision {
    file: String,
    name: Name,
    number: u32,
    schema: Value,
}

impl Revision {
    fn example(&self) -> &Value {
        &self.schema["examples"][0]
    }
}

/// Everything that was ever released, the oldest revision of an event first. A file is `post.created.v1.2.json`: the second
/// revision of version 1.
fn released() -> Vec<Revision> {
    let files = files::names(RELEASED).into_iter().filter(|file| file != SUMS);
    let mut revisions: Vec<Revision> = files
        .map(|file| {
            let parts: Vec<&str> = file.rsplitn(4, '.').collect();
            let ["json", number, version, event] = parts[..] else {
                panic!("{RELEASED}/{file}: what is this?")
            };
            let version = version.strip_prefix('v').and_then(|version| version.parse().ok());
            let name = Name { event: event.to_owned(), version: version.expect("a version") };
            let (number, schema) =
                (number.parse().expect("a revision"), files::json(&format!("{RELEASED}/{file}")));
            Revision { file, name, number, schema }
        })
        .collect();
    revisions.sort_by(|one, other| (&one.name, one.number).cmp(&(&other.name, other.number)));
    revisions
}

fn examples() -> BTreeMap<Name, Value> {
    let names = catalogue::schemas().into_keys();
    names
        .map(|name| {
            let example = files::json(&format!("events/examples/{}.json", name.stem()));
            (name, example)
        })
        .collect()
}

/// Who listens to which event, by the rules of the templates.
fn consumers() -> BTreeMap<String, Vec<Consumer>> {
    let mut consumers: BTreeMap<String, Vec<Consumer>> = BTreeMap::new();
    for (stack, template) in &templates::all() {
        for (rule, properties) in templates::of_type(template, "AWS::Events::Rule") {
            let queue = properties["Targets"][0]["Arn"].as_str().expect(rule);
            let mut mappings = templates::of_type(template, "AWS::Lambda::EventSourceMapping");
            let (_, mapping) = mappings
                .find(|(_, mapping)| mapping["EventSourceArn"].as_str() == Some(queue))
                .unwrap_or_else(|| panic!("{stack}: nobody reads the queue of {rule}"));
            let function =
                &template["Resources"][mapping["FunctionName"].as_str().expect(rule)]["Properties"];
            let text =
                |name: &str| function[name].as_str().unwrap_or_else(|| panic!("{rule}: {name}")).to_owned();
            for event in properties["EventPattern"]["detail-type"].as_vec().expect(rule) {
                let consumer = Consumer { function: text("FunctionName"), description: text("Description") };
                consumers.entry(event.as_str().expect(rule).to_owned()).or_default().push(consumer);
            }
        }
    }
    for consumers in consumers.values_mut() {
        consumers.sort();
    }
    consumers
}

/// Asserts that whoever knows an event as it was ever released can read it as the code publishes it now.
fn can_be_read_by_everybody() {
    let present = catalogue::schemas();
    let mut found = Vec::new();
    for Revision { file, name, schema, .. } in released() {
        match present.get(&name) {
            Some(present) => found.extend(breaks(&name.event, &schema, present)),
            None => found.push(format!(
                "{}: version {} was released ({RELEASED}/{file}) and the code does not know it any more. Keep it beside the new \
                 one: there are events of it in queues and in the archive.",
                name.event, name.version
            )),
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn no_event_changes_in_a_way_that_somebody_could_not_read() {
    let _alone = alone();
    can_be_read_by_everybody();
}

#[test]
fn the_committed_schemas_are_what_the_code_publishes_and_each_of_them_is_kept_for_good() {
    let _alone = alone();
    // First: what may not be published is not written either.
    can_be_read_by_everybody();
    let (present, examples, released) = (catalogue::schemas(), examples(), released());
    for (name, schema) in &present {
        let stem = name.stem();
        files::is_current(&format!("events/schemas/{stem}.json"), &files::pretty(schema));
        let last = released.iter().rfind(|revision| revision.name == *name);
        if last.is_some_and(|last| bare(&last.schema) == bare(schema)) {
            continue;
        }
        let file = format!("{stem}.{}.json", last.map_or(0, |last| last.number) + 1);
        assert!(
            files::updating(),
            "{RELEASED}/{file} is missing: keep what is published now. {}",
            files::UPDATE
        );
        let mut kept = schema.clone();
        kept["examples"] = json!([examples[name]]);
        keep(&file, &files::pretty(&kept));
    }
    let expected: Vec<String> = present.keys().map(|name| format!("{}.json", name.stem())).collect();
    assert_eq!(files::names("events/schemas"), expected);
    assert_eq!(files::names("events/examples"), expected);
}

/// Adds a file to what was released, where no file is ever written over.
fn keep(file: &str, text: &str) {
    let path = files::at(RELEASED).join(file);
    assert!(!path.exists(), "{RELEASED}/{file} is there already");
    fs::write(path, text).unwrap();
    let mut sums = fs::read_to_string(files::at(RELEASED).join(SUMS)).unwrap_or_default();
    writeln!(sums, "{}  {file}", sum(text)).unwrap();
    fs::write(files::at(RELEASED).join(SUMS), sums).unwrap();
}

fn sum(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").unwrap();
        digits
    })
}

#[test]
fn what_was_released_is_as_it_was() {
    let _alone = alone();
    let sums = files::text(&format!("{RELEASED}/{SUMS}"));
    let noted: BTreeMap<&str, &str> = sums
        .lines()
        .map(|line| line.split_once("  ").expect("a checksum and a file"))
        .map(|(sum, file)| (file, sum))
        .collect();
    let there: BTreeSet<String> = files::names(RELEASED).into_iter().filter(|file| file != SUMS).collect();
    let names: BTreeSet<String> = noted.keys().map(|&file| file.to_owned()).collect();
    assert_eq!(there, names, "a file in {RELEASED} came or went by hand");
    for (file, expected) in noted {
        assert_eq!(
            sum(&files::text(&format!("{RELEASED}/{file}"))),
            expected,
            "{RELEASED}/{file} was changed"
        );
    }
}

#[test]
fn the_code_reads_every_example_that_was_ever_released() {
    let _alone = alone();
    let present = catalogue::schemas();
    let revisions = released();
    assert!(revisions.len() >= present.len(), "examples were read");
    for revision in revisions {
        let (file, example) = (&revision.file, revision.example());
        let read = through_code(example).unwrap_or_else(|error| {
            panic!(
                "{RELEASED}/{file}: the code cannot read this any more ({error}). Make the field optional, or publish it with \
                 a new schemaversion, side by side with this one."
            )
        });
        assert_eq!(read, *example, "{RELEASED}/{file}");
        let old = jsonschema::options().should_validate_formats(true).build(&revision.schema).unwrap();
        assert!(old.is_valid(example), "{RELEASED}/{file}: {:?}", old.validate(example));
        let Some(schema) = present.get(&revision.name) else { continue };
        let new = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        assert!(new.is_valid(example), "{RELEASED}/{file}: {:?}", new.validate(example));
    }
}

#[test]
fn the_committed_asyncapi_document_is_what_code_and_templates_say() {
    let document = catalogue::asyncapi(&examples(), &consumers());
    files::is_current("infra/asyncapi.json", &files::pretty(&document));
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

#[test]
fn the_catalogue_is_what_code_and_templates_say() {
    files::is_current("events/README.md", &page());
}

/// The catalogue as a page for people.
fn page() -> String {
    let (schemas, examples, consumers) = (catalogue::schemas(), examples(), consumers());
    let mut page = format!(
        "<!-- Generated: {} -->\n# Events\n\n\
         What the services tell each other. An event travels on the bus `madang` as a CloudEvents 1.0 object: `subject` is \
         what\nchanged, `sequence` its version after the change, `time` when the change was made. A consumer ignores fields \
         that it does\nnot know; it may see an event twice, and a later one first.\n\n\
         | event | published by | when | who reacts |\n|---|---|---|---|\n",
        files::UPDATE
    );
    for (name, schema) in &schemas {
        let reacts: Vec<String> = consumers
            .get(&name.event)
            .into_iter()
            .flatten()
            .map(|consumer| format!("`{}`", consumer.function))
            .collect();
        let reacts = if reacts.is_empty() { "–".to_owned() } else { reacts.join(", ") };
        let (event, anchor) = (&name.event, name.stem().replace('.', ""));
        let when = schema["description"].as_str().unwrap();
        writeln!(page, "| [{event}](#{anchor}) | {} | {when} | {reacts} |", publisher(schema)).unwrap();
    }
    page.push_str(
        "\nThe machine-readable form is [infra/asyncapi.json](../infra/asyncapi.json); each event has its schema in \
         `schemas/`. What\nwas ever released is kept in `released/`, and no change that its readers could not read passes \
         the tests.\n",
    );
    for (name, schema) in &schemas {
        writeln!(page, "\n## {}\n\n{}", name.stem(), schema["description"].as_str().unwrap()).unwrap();
        for consumer in consumers.get(&name.event).into_iter().flatten() {
            writeln!(page, "\n- `{}`: {}", consumer.function, consumer.description.trim()).unwrap();
        }
        page.push_str("\n| field of `data` | type | |\n|---|---|---|\n");
        fields(&mut page, "", &schema["properties"]["data"]);
        let example = serde_json::to_string_pretty(&examples[name]).unwrap();
        writeln!(page, "\n```json\n{example}\n```").unwrap();
    }
    page
}

/// The rows of an object's fields, inner ones too.
fn fields(page: &mut String, at: &str, object: &Value) {
    let required = object["required"].as_array().cloned().unwrap_or_default();
    for (name, schema) in object["properties"].as_object().into_iter().flatten() {
        let (mut of, mut inner) = (schema["type"].as_str().unwrap_or("string").to_owned(), schema);
        let mut path = format!("{at}{name}");
        if schema["items"].is_object() {
            (of, inner) = ("array".to_owned(), &schema["items"]);
            path.push_str("[]");
        }
        if let Some(format) = schema["format"].as_str() {
            format.clone_into(&mut of);
        }
        let need = if required.contains(&json!(name)) { "" } else { ", may be absent" };
        let about = schema["description"].as_str().unwrap_or_default();
        writeln!(page, "| `{at}{name}` | {of}{need} | {about} |").unwrap();
        fields(page, &format!("{path}."), inner);
    }
}
