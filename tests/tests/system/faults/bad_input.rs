//! Input that is huge, old, unknown or unreadable: no event of it is lost. It is handled, or set aside with the reason. The reason, and
//! what is logged, quotes nothing that people wrote.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use kernel::{clock::Timestamp, event::MAX_SEQUENCE};
use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{Changes, Proxy, Refusal, event, http_input, input, on_the_bus, reported, with_copy},
};
use uuid::Uuid;

/// The largest message that SQS accepts, in bytes.
const LARGEST: usize = 1024 * 1024;
/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// The text, followed by as many spaces as make it this long.
fn padded(text: &str, length: usize) -> String {
    format!("{text}{}", " ".repeat(length - text.len()))
}

/// An address that must not leave in an error.
const ADDRESS: &str = "leaking@example.com";
/// The consumers of `user.created`.
const OF_USERS: [&str; 4] = ["posts-on-user", "comments-on-user", "notifications-on-user", "orders-on-user"];

/// The copy that orders has of a user.
async fn copy(system: &System, id: Uuid) -> Option<Value> {
    system.item("orders", &format!("user#{id}"), "user").await
}

#[tokio::test]
async fn an_event_of_a_mebibyte_is_applied() {
    let system = System::connect().await;
    let id = Uuid::now_v7();
    let created = on_the_bus(&event("user.created", id, 1, &json!({"id": id, "name": "Ara"})));
    system.send("orders-on-user", &padded(&created.to_string(), LARGEST)).await;
    eventually("the event is applied", async || copy(&system, id).await).await;
}

#[tokio::test]
async fn a_malformed_message_of_a_mebibyte_is_set_aside_whole_with_as_much_of_the_reason_as_fits() {
    let system = System::connect().await;
    let reason = "reasonString".len();
    for (length, of_reason) in [(LARGEST, 0), (LARGEST - reason - 5, 5), (LARGEST - 2000, 12)] {
        let malformed = padded(&format!("malformed {}", Uuid::now_v7()), length);
        system.send("orders-on-user", &malformed).await;
        let letter = system.dead_letter("orders-on-user", |body| body == malformed).await;
        let attributes = letter.message_attributes.unwrap_or_default();
        let reason =
            attributes.get("reason").and_then(|reason| reason.string_value.as_deref()).unwrap_or_default();
        assert_eq!(reason.get(..of_reason), Some(&"not an event"[..of_reason]), "{length}: {reason}");
        assert!(of_reason == 12 || reason.len() == of_reason, "{length}: {reason}");
    }
}

#[tokio::test]
async fn an_event_that_is_older_than_a_tombstone_lives_is_set_aside_with_the_reason() {
    let system = System::connect().await;
    let id = Uuid::now_v7();
    let mut old = event("user.created", id, 1, &json!({"id": id, "name": "Ara"}));
    old["time"] = json!(Timestamp::now().plus_seconds(-40 * DAY));
    system.send("orders-on-user", &on_the_bus(&old).to_string()).await;
    let letter = system.dead_letter("orders-on-user", |body| body.contains(&id.to_string())).await;
    let reason = letter.message_attributes.unwrap()["reason"].string_value.clone().unwrap();
    assert!(reason.ends_with("more than 30 days ago"), "{reason}");
    assert_eq!(copy(&system, id).await, None, "it was applied, too");
}

/// Puts an event on the bus as `user.created` of users, whatever it says itself.
async fn publish_as_user_created(system: &System, event: &Value) {
    let entry = PutEventsRequestEntry::builder()
        .event_bus_name(system.output("event_bus"))
        .source("madang.users")
        .detail_type("user.created")
        .detail(event.to_string());
    let bus = aws_sdk_eventbridge::Client::new(&system.aws);
    let answer = bus.put_events().entries(entry.build()).send().await.expect("PutEvents");
    assert_eq!(answer.failed_entry_count(), 0);
}

#[tokio::test]
async fn an_event_that_a_consumer_does_not_know_is_set_aside_with_a_reason_that_names_the_attribute() {
    let system = System::connect().await;
    let changes = [
        ("specversion", json!("0.3")),
        ("source", json!("madang.posts")),
        ("type", json!("user.updated")),
        ("schemaversion", json!(2)),
        ("sequence", json!(0)),
        ("sequence", json!(MAX_SEQUENCE + 1)),
        ("sequence", json!(u64::MAX)),
        ("subject", json!(Uuid::now_v7())),
        ("time", json!(Timestamp::now().plus_seconds(DAY))),
        ("data", json!({"id": Uuid::now_v7()})),
    ];
    let mut ids = Vec::new();
    for (attribute, value) in &changes {
        let id = Uuid::now_v7();
        let mut changed = event("user.created", id, 1, &json!({"id": id, "name": "Ara"}));
        changed[attribute] = value.clone();
        publish_as_user_created(&system, &changed).await;
        ids.push((id, changed["id"].as_str().unwrap().to_owned()));
    }
    for consumer in OF_USERS {
        for ((attribute, value), (_, event_id)) in changes.iter().zip(&ids) {
            let letter = system.dead_letter(consumer, |body| body.contains(event_id)).await;
            let reason = letter.message_attributes.unwrap()["reason"].string_value.clone().unwrap();
            assert!(
                reason.starts_with(&format!("{attribute} ")),
                "{consumer}, {attribute} {value}: {reason}"
            );
        }
    }
    for (id, _) in ids {
        assert_eq!(copy(&system, id).await, None, "it was applied, too");
        // It has not frozen the copy either.
        system.publish(&event("user.created", id, 1, &json!({"id": id, "name": "Ara"}))).await;
        eventually("a valid event is applied", async || copy(&system, id).await).await;
    }
}

#[tokio::test]
async fn the_reason_and_the_log_of_a_message_that_cannot_be_read_quote_none_of_it() {
    let system = System::connect().await;
    let id = Uuid::now_v7();
    let mut unreadable = event("user.created", id, 1, &json!({"id": id, "name": {"first": ADDRESS}}));
    for attribute in ["data", "sequence"] {
        if attribute == "sequence" {
            unreadable[attribute] = json!(ADDRESS);
        }
        let event_id = Uuid::now_v7();
        unreadable["id"] = json!(event_id);
        system.send("orders-on-user", &on_the_bus(&unreadable).to_string()).await;
        let letter = system.dead_letter("orders-on-user", |body| body.contains(&event_id.to_string())).await;
        let reason = letter.message_attributes.unwrap()["reason"].string_value.clone().unwrap();
        assert!(reason.contains(attribute) && !reason.contains(ADDRESS), "{reason}");
    }
    let lines = eventually("its line is in the log", async || {
        let lines = system.log_lines("orders-on-user", "moved to the dead-letter queue").await;
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert!(!json!(lines).to_string().contains(ADDRESS), "{lines:?}");
}

#[tokio::test]
async fn the_error_and_the_log_of_an_input_that_a_step_cannot_read_quote_none_of_it() {
    let system = System::connect().await;
    let unreadable = json!({"order_id": Uuid::now_v7(), "buyer_id": ADDRESS, "traceparent": null});
    with_copy(&system, "orders-validate-user", Changes::default(), async |copy| {
        let failed = copy.fails(&unreadable).await;
        let message = failed.answer["errorMessage"].as_str().unwrap();
        assert_eq!(message, "invalid value at buyer_id", "{failed:?}");
        assert!(failed.log.contains(message) && !failed.log.contains(ADDRESS), "{}", failed.log);
    })
    .await;
}

#[tokio::test]
async fn the_log_of_a_request_for_an_item_that_cannot_be_read_quotes_none_of_it() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let dynamodb = aws_sdk_dynamodb::Client::new(&system.aws);
    let key = |value: String| AttributeValue::S(value);
    let update = dynamodb
        .update_item()
        .table_name("notifications")
        .key("pk", key(format!("user#{}", person.id)))
        .key("sk", key("settings".to_owned()))
        .update_expression("SET version = :address")
        .expression_attribute_values(":address", key(ADDRESS.to_owned()));
    update.send().await.expect("UpdateItem");
    let path = "/notifications/preferences";
    with_copy(&system, "notifications-preferences", Changes::default(), async |copy| {
        let invoked =
            copy.invoke(&http_input("notifications-preferences", person.id, path, &json!({}))).await;
        invoked.http().is_problem(500, "internal");
        assert!(invoked.log.contains("the table cannot be used: Expected num at version"), "{}", invoked.log);
        assert!(!invoked.log.contains(ADDRESS), "{}", invoked.log);
    })
    .await;
}

/// A new image whose outbox is not an event, or that is no image at all. Each has this id somewhere.
fn unreadable(id: Uuid) -> [Value; 6] {
    let with_outbox = |outbox: Value| json!({"pk": {"S": "post#1"}, "sk": {"S": "post"}, "outbox": outbox});
    [
        with_outbox(json!({"S": id})),
        with_outbox(json!({"L": [{"S": id}]})),
        with_outbox(json!({"M": {"id": {"S": id}}})),
        with_outbox(json!({"M": {"id": {"S": id}, "type": {"N": "7"}}})),
        with_outbox(json!({"X": id})),
        json!({"pk": id}),
    ]
}

#[tokio::test]
async fn a_record_whose_new_image_is_no_event_is_set_aside_with_a_reason_and_no_other_attribute_and_the_others_are_published()
 {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    proxy.refuse(|call| Some(Refusal::entries(call, |_| false)));
    with_copy(&system, "posts-relay", Changes::endpoint("EVENTBRIDGE", &proxy), async |relay| {
        for kind in 0..unreadable(Uuid::nil()).len() {
            let ids = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
            let template = input("relay")["Records"][0].clone();
            let mut records: Vec<Value> = Vec::new();
            for (id, number) in ids.iter().zip(1..) {
                let mut record = template.clone();
                record["dynamodb"]["SequenceNumber"] = json!(number.to_string());
                record["dynamodb"]["NewImage"]["outbox"]["M"]["id"]["S"] = json!(id);
                records.push(record);
            }
            records[1]["dynamodb"]["NewImage"] = unreadable(ids[1])[kind].clone();
            records[1]["dynamodb"]["NewImage"]["email"] = json!({"S": ADDRESS});
            let before = proxy.calls().len();
            let answer = relay.invoke(&json!({"Records": records})).await.answer;
            assert_eq!(reported(&answer), Vec::<String>::new(), "{}", records[1]);
            let letter = system.dead_letter("posts-relay", |body| body.contains(&ids[1].to_string())).await;
            assert!(!letter.body.unwrap().contains(ADDRESS), "{}", records[1]);
            let reason = letter.message_attributes.unwrap()["reason"].string_value.clone().unwrap();
            assert!(!reason.is_empty() && !reason.contains(&ids[1].to_string()), "{reason}: {}", records[1]);
            let calls = &proxy.calls()[before..];
            let [put] = calls else { panic!("expected one call: {calls:?}") };
            let entries = put.input["Entries"].to_string();
            let on_the_bus = ids.map(|id| entries.contains(&id.to_string()));
            assert_eq!(on_the_bus, [true, false, true], "{}", records[1]);
        }
    })
    .await;
}
