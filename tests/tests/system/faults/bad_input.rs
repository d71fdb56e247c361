//! Input that is huge, old or unreadable: nothing of it is lost. It is handled, or set aside whole with the reason.

use kernel::clock::Timestamp;
use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{Changes, Proxy, Refusal, event, input, on_the_bus, reported, with_copy},
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
async fn a_record_whose_new_image_is_no_event_is_set_aside_with_a_reason_and_the_others_are_published() {
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
            let before = proxy.calls().len();
            let answer = relay.invoke(&json!({"Records": records})).await.answer;
            assert_eq!(reported(&answer), Vec::<String>::new(), "{}", records[1]);
            let letter = system.dead_letter("posts-relay", |body| body.contains(&ids[1].to_string())).await;
            let reason = letter.message_attributes.unwrap()["reason"].string_value.clone().unwrap();
            assert!(!reason.is_empty(), "{}", records[1]);
            let calls = &proxy.calls()[before..];
            let [put] = calls else { panic!("expected one call: {calls:?}") };
            let entries = put.input["Entries"].to_string();
            let on_the_bus = ids.map(|id| entries.contains(&id.to_string()));
            assert_eq!(on_the_bus, [true, false, true], "{}", records[1]);
        }
    })
    .await;
}
