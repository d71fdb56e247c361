//! An event bus that refuses entries: the relay retries the refused ones, and reports those that it could not publish, so that
//! the stream keeps them.

use serde_json::{Value, json};
use system_tests::{
    System, assert_json,
    faults::{Changes, Copy, Proxy, Refusal, input, with_copy},
};
use uuid::Uuid;

/// A stream's batch of three new posts with the sequence numbers 1, 2 and 3, and the ids of their events.
fn three_records() -> (Value, [Uuid; 3]) {
    let mut batch = input("relay");
    let template = batch["Records"][0].clone();
    let ids = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    let records = ids.iter().zip(1..).map(|(id, sequence_number)| {
        let mut record = template.clone();
        record["dynamodb"]["SequenceNumber"] = json!(sequence_number.to_string());
        record["dynamodb"]["NewImage"]["outbox"]["M"]["id"]["S"] = json!(id);
        record
    });
    batch["Records"] = records.collect();
    (batch, ids)
}

/// The id of the event in an entry.
fn id(entry: &Value) -> Value {
    let event: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
    event["id"].clone()
}

/// The ids of the events in each call of `PutEvents`.
fn attempts(proxy: &Proxy) -> Vec<Vec<Value>> {
    let calls = proxy.calls().into_iter().filter(|call| call.operation == "PutEvents");
    calls.map(|call| call.input["Entries"].as_array().unwrap().iter().map(id).collect()).collect()
}

/// Runs a test with a copy of a relay that publishes to the proxy.
async fn with_relay(system: &System, proxy: &Proxy, test: impl AsyncFnOnce(&Copy)) {
    with_copy(system, "posts-relay", Changes::endpoint("EVENTBRIDGE", proxy), test).await;
}

#[tokio::test]
async fn an_entry_that_the_bus_always_refuses_is_retried_alone_and_reported_alone() {
    let system = System::connect().await;
    let (batch, [first, second, third]) = three_records();
    let proxy = Proxy::start(&system).await;
    proxy.refuse(move |call| Some(Refusal::entries(call, |entry| id(entry) == json!(second))));
    with_relay(&system, &proxy, async |relay| {
        let answer = relay.invoke(&batch).await.answer;
        assert_json(&answer, &json!({"batchItemFailures": [{"itemIdentifier": "2"}]}));
        let expected =
            [vec![json!(first), json!(second), json!(third)], vec![json!(second)], vec![json!(second)]];
        assert_eq!(attempts(&proxy), expected);
    })
    .await;
}

#[tokio::test]
async fn an_entry_that_the_bus_refuses_once_is_published_by_the_retry() {
    let system = System::connect().await;
    let (batch, [first, second, third]) = three_records();
    let proxy = Proxy::start(&system).await;
    proxy.refuse(move |call| {
        let all = call.input["Entries"].as_array().unwrap().len() == 3;
        Some(Refusal::entries(call, |entry| all && id(entry) == json!(second)))
    });
    with_relay(&system, &proxy, async |relay| {
        assert_json(&relay.invoke(&batch).await.answer, &json!({"batchItemFailures": []}));
        let expected = [vec![json!(first), json!(second), json!(third)], vec![json!(second)]];
        assert_eq!(attempts(&proxy), expected);
    })
    .await;
}

#[tokio::test]
async fn all_records_are_reported_if_the_bus_does_not_answer() {
    let system = System::connect().await;
    let (batch, _) = three_records();
    let proxy = Proxy::start(&system).await;
    proxy.refuse(|_| Some(Refusal::failure()));
    with_relay(&system, &proxy, async |relay| {
        let failures = ["1", "2", "3"].map(|number| json!({"itemIdentifier": number}));
        assert_json(&relay.invoke(&batch).await.answer, &json!({"batchItemFailures": failures}));
    })
    .await;
}

#[tokio::test]
async fn a_malformed_outbox_goes_to_the_dead_letter_queue_and_blocks_no_other_event() {
    let system = System::connect().await;
    let (mut batch, [first, second, third]) = three_records();
    batch["Records"][1]["dynamodb"]["NewImage"]["outbox"]["M"].as_object_mut().unwrap().remove("type");
    let proxy = Proxy::start(&system).await;
    proxy.refuse(|call| Some(Refusal::entries(call, |_| false)));
    with_relay(&system, &proxy, async |relay| {
        assert_json(&relay.invoke(&batch).await.answer, &json!({"batchItemFailures": []}));
        assert_eq!(attempts(&proxy), [vec![json!(first), json!(third)]]);
        let letter = system.dead_letter("posts-relay", |body| body.contains(&second.to_string())).await;
        let reason = letter.message_attributes.unwrap()["reason"].string_value.clone().unwrap();
        assert_eq!(reason, "missing field `type`");
    })
    .await;
}
