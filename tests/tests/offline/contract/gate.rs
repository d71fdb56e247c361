//! The compatibility gate: which changes it rejects, with which messages, and which changes pass.

use serde_json::{Value, json};
use system_tests::{
    catalogue::{self, Name},
    compatibility::{bare, breaks},
};

/// The schema of an event, and the same schema after a change of `data`.
fn changed(event: &str, change: impl Fn(&mut Value)) -> (Value, Value) {
    let name = Name { event: event.to_owned(), version: 1 };
    let released = catalogue::schemas()[&name].clone();
    let mut current = released.clone();
    change(&mut current["properties"]["data"]);
    assert_ne!(released, current, "the change changes something");
    (released, current)
}

/// The only message about a change that the gate rejects.
fn rejection(event: &str, change: impl Fn(&mut Value)) -> String {
    let (released, current) = changed(event, change);
    let mut found = breaks(event, &released, &current);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

const SIDE_BY_SIDE: &str =
    "publish it with a new schemaversion, side by side with this one, until no consumer reads this one.";

#[test]
fn a_change_that_old_consumers_could_not_read_fails_with_the_field_and_the_remedy() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change, &str); 12] = [
        ("comment.created", |data| drop(remove(data, "excerpt")), "data.excerpt was removed"),
        (
            "comment.created",
            |data| {
                let author = remove(data, "author_id");
                data["properties"]["writer_id"] = author;
            },
            "data.author_id was removed",
        ),
        ("comment.created", |data| unrequire(data, "excerpt"), "data.excerpt is no longer required"),
        (
            "comment.created",
            |data| data["properties"]["post_id"]["type"] = json!("integer"),
            "data.post_id changed its type from string to integer",
        ),
        (
            "comment.created",
            |data| data["properties"]["excerpt"]["maxLength"] = json!(4096),
            "data.excerpt changed its maxLength from 140 to 4096",
        ),
        (
            "comment.created",
            |data| data["properties"]["excerpt"]["minLength"] = json!(0),
            "data.excerpt changed its minLength from 1 to 0",
        ),
        (
            "notification.created",
            |data| data["properties"]["type"]["enum"].as_array_mut().unwrap().push(json!("mention")),
            "data.type may now be mention",
        ),
        (
            "order.placed",
            |data| data["properties"]["total"]["properties"]["currency"]["pattern"] = json!("^[a-z]{3}$"),
            "data.total.currency changed its pattern from \"^[A-Z]{3}$\" to \"^[a-z]{3}$\"",
        ),
        (
            "order.placed",
            |data| drop(remove(&mut data["properties"]["total"], "currency")),
            "data.total.currency was removed",
        ),
        (
            "inventory.reserved",
            |data| data["properties"]["items"]["items"]["properties"]["quantity"]["maximum"] = json!(5000),
            "data.items[].quantity changed its maximum from 1000 to 5000",
        ),
        (
            "inventory.reserved",
            |data| drop(data["properties"]["items"].as_object_mut().unwrap().remove("maxItems")),
            "data.items changed its maxItems from 50 to null",
        ),
        (
            "user.created",
            |data| data["properties"]["name"]["type"] = json!(["string", "null"]),
            "data.name changed its type from string to null or string",
        ),
    ];
    for (event, change, what) in changes {
        let message = rejection(event, change);
        let expected = format!(
            "{event}: {what}. Consumers that know the released {event} cannot read that: {SIDE_BY_SIDE}"
        );
        // A removed field that was required is reported only once.
        assert_eq!(message, expected);
    }
}

#[test]
fn a_field_that_old_events_lack_cannot_become_required() {
    let added = rejection("comment.created", |data| {
        data["properties"]["language"] = json!({"type": "string"});
        data["required"].as_array_mut().unwrap().push(json!("language"));
    });
    assert!(added.starts_with("comment.created: data.language is new and required. Events that"), "{added}");
    assert!(
        added.contains("(what is new is optional), or publish it with a new schemaversion, side by side"),
        "{added}"
    );
    let required = rejection("order.placed", |data| {
        data["required"].as_array_mut().unwrap().push(json!("total"));
    });
    assert!(required.starts_with("order.placed: data.total is now required."), "{required}");
}

#[test]
fn a_schema_that_rejects_released_events_fails_the_gate() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change, &str); 6] = [
        (
            "notification.created",
            |data| {
                data["properties"]["type"]["enum"].as_array_mut().unwrap().retain(|kind| kind != "comment");
            },
            "data.type may no longer be comment",
        ),
        (
            "comment.created",
            |data| data["properties"]["excerpt"]["maxLength"] = json!(100),
            "data.excerpt changed its maxLength from 140 to 100",
        ),
        (
            "order.placed",
            |data| data["properties"]["reason"]["maxLength"] = json!(80),
            "data.reason changed its maxLength from null to 80",
        ),
        (
            "order.placed",
            |data| data["properties"]["reason"]["pattern"] = json!("^[a-z_]+$"),
            "data.reason now has the pattern \"^[a-z_]+$\"",
        ),
        (
            "user.created",
            |data| data["properties"]["name"]["enum"] = json!(["Ara", "Bada"]),
            "data.name is now one of a list, and could be any value",
        ),
        (
            "user.created",
            |data| {
                drop(data["properties"]["id"].as_object_mut().unwrap().insert("format".into(), json!("uri")));
            },
            "data.id changed its format from \"uuid\" to \"uri\"",
        ),
    ];
    for (event, change, what) in changes {
        let message = rejection(event, change);
        assert!(message.starts_with(&format!("{event}: {what}. ")), "{message}");
        assert!(message.ends_with("until no consumer reads this one."), "{message}");
    }
}

#[test]
fn compatible_changes_pass_the_gate() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 4] = [
        ("comment.created", |data| data["properties"]["language"] = json!({"type": "string"})),
        ("comment.created", |data| data["properties"]["excerpt"]["description"] = json!("How it begins.")),
        ("comment.created", |data| data["required"].as_array_mut().unwrap().reverse()),
        ("notification.created", |data| {
            data["properties"]["type"]["enum"].as_array_mut().unwrap().reverse();
        }),
    ];
    for (event, change) in changes {
        let (released, current) = changed(event, change);
        assert_eq!(breaks(event, &released, &current), [""; 0]);
    }
}

#[test]
fn descriptions_are_ignored_and_a_field_named_title_is_compared() {
    let schema = json!({"title": "a", "properties": {"title": {"type": "string", "description": "b"}}});
    assert_eq!(bare(&schema), json!({"properties": {"title": {"type": "string"}}}));
    let reordered = |names: [&str; 2]| bare(&json!({"required": names}));
    assert_eq!(reordered(["a", "b"]), reordered(["b", "a"]));
}

fn remove(object: &mut Value, name: &str) -> Value {
    unrequire(object, name);
    object["properties"].as_object_mut().unwrap().remove(name).unwrap()
}

fn unrequire(object: &mut Value, name: &str) {
    object["required"].as_array_mut().unwrap().retain(|required| required != name);
}
