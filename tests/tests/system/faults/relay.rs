//! An event bus that refuses entries: the relay retries the refused ones, and reports those that it could not publish, so that
//! the stream keeps them. What the bus will never accept is set aside, so that it does not hold up what is behind it.

use serde_json::{Value, json};
use system_tests::{
    System, assert_json,
    faults::{Changes, Copy, Proxy, Refusal, input, with_copy},
};
use uuid::Uuid;

/// The codes of entries that the bus will never accept.
const PERMANENT: [&str; 7] = [
    "AccessDeniedException",
    "InvalidAccountIdException",
    "InvalidArgument",
    "MalformedDetail",
    "NotAuthorizedForDetailTypeException",
    "NotAuthorizedForSourceException",
    "RedactionFailure",
];
/// Attempts of the relay at one call.
const ATTEMPTS: usize = 3;

/// A stream's batch of three new posts with the sequence numbers 1, 2 and 3, and the ids of their events.
fn three_records() -> (Value, [Uuid; 3]) {
    let (batch, ids) = records(3);
    (batch, ids.try_into().unwrap())
}

/// A stream's batch of new posts with sequence numbers from 1, and the ids of their events.
fn records(count: usize) -> (Value, Vec<Uuid>) {
    let mut batch = input("relay");
    let template = batch["Records"][0].clone();
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
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
        // The relay retries, and the SDK's client does not.
        assert_eq!(proxy.operations(), ["PutEvents"; ATTEMPTS]);
    })
    .await;
}

#[tokio::test]
async fn publishing_stops_at_the_first_chunk_with_an_entry_that_still_fails() {
    let system = System::connect().await;
    let (batch, ids) = records(35);
    let refused = ids[14];
    let proxy = Proxy::start(&system).await;
    proxy.refuse(move |call| Some(Refusal::entries(call, |entry| id(entry) == json!(refused))));
    with_relay(&system, &proxy, async |relay| {
        let answer = relay.invoke(&batch).await.answer;
        assert_json(&answer, &json!({"batchItemFailures": [{"itemIdentifier": "15"}]}));
        let chunk = |from: usize| ids[from..from + 10].iter().map(|id| json!(id)).collect();
        // The records behind this chunk are delivered again, because a stream starts again at the record that failed.
        let expected: [Vec<Value>; 4] = [chunk(0), chunk(10), vec![json!(refused)], vec![json!(refused)]];
        assert_eq!(attempts(&proxy), expected);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_the_bus_will_never_accept_is_set_aside_with_its_reason_and_nothing_else_of_its_item() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    with_relay(&system, &proxy, async |relay| {
        for code in PERMANENT {
            let (mut batch, [first, second, third]) = three_records();
            batch["Records"][1]["dynamodb"]["NewImage"]["email"] = json!({"S": "ara@example.com"});
            let before = attempts(&proxy).len();
            proxy.refuse(move |call| {
                Some(Refusal::entries_because(call, code, |entry| id(entry) == json!(second)))
            });
            assert_json(&relay.invoke(&batch).await.answer, &json!({"batchItemFailures": []}));
            assert_eq!(attempts(&proxy)[before..], [[json!(first), json!(second), json!(third)]], "{code}");
            let letter = system.dead_letter("posts-relay", |body| body.contains(&second.to_string())).await;
            let reason = letter.message_attributes.unwrap()["reason"].string_value.clone().unwrap();
            assert!(reason.contains(code), "{reason}");
            let item: Value = serde_json::from_str(&letter.body.unwrap()).unwrap();
            assert_eq!(
                item.as_object().unwrap().keys().collect::<Vec<_>>(),
                ["outbox", "pk", "sk"],
                "{item}"
            );
            assert!(item["pk"].as_str().unwrap().starts_with("post#"), "{item}");
            let event = ["id", "type", "source"].map(|name| item["outbox"][name].clone());
            assert_eq!(event, [json!(second), json!("post.created"), json!("madang.posts")]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_call_that_is_refused_because_of_one_entry_publishes_the_others() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    with_relay(&system, &proxy, async |relay| {
        for code in ["ValidationException", "AccessDeniedException"] {
            let (batch, [first, second, third]) = three_records();
            let before = attempts(&proxy).len();
            proxy.refuse(move |call| {
                let refused = call.input["Entries"].to_string().contains(&second.to_string());
                let body = json!({"__type": code, "message": "one of the entries"});
                let answer = Refusal { status: 400, body };
                Some(if refused { answer } else { Refusal::entries(call, |_| false) })
            });
            assert_json(&relay.invoke(&batch).await.answer, &json!({"batchItemFailures": []}));
            let all = attempts(&proxy)[before..].concat();
            for published in [first, third] {
                assert!(all.contains(&json!(published)), "{code}: {all:?}");
            }
            let letter = system.dead_letter("posts-relay", |body| body.contains(&second.to_string())).await;
            let reason = letter.message_attributes.unwrap()["reason"].string_value.clone().unwrap();
            assert!(reason.contains(code), "{reason}");
        }
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
