//! A cascade that meets an item which cannot be changed: it changes all others, and comes back for that one.
//!
//! The test takes the place of the consumer's queue: it answers the calls, and delivers the messages that the cascade sends.

use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{Call, Changes, Copy, Proxy, Refusal, batch, event, reported, with_copy},
};
use uuid::Uuid;

const POSTS: usize = 5;

/// Delivers an event's message, with the progress of its cascade if it has one. Returns whether the delivery failed, and the
/// message that the cascade has sent to continue, if there is one.
async fn deliver(
    copy: &Copy,
    queue: &Proxy,
    event: &Value,
    progress: Option<&Value>,
) -> (bool, Option<Value>) {
    let mut batch = batch("posts-on-user", std::slice::from_ref(event));
    if let Some(progress) = progress {
        let attribute = json!({"stringValue": progress.to_string(), "dataType": "String"});
        batch["Records"][0]["messageAttributes"]["progress"] = attribute;
    }
    let before = queue.calls().len();
    let failed = reported(&copy.invoke(&batch).await.answer);
    let sent: Vec<Call> =
        queue.calls().split_off(before).into_iter().filter(|call| call.operation == "SendMessage").collect();
    assert!(sent.len() <= 1, "{sent:?}");
    (!failed.is_empty(), sent.into_iter().next().map(|call| call.input))
}

/// The progress in a message that a cascade has sent.
fn progress(message: &Value) -> Value {
    let text = message["MessageAttributes"]["progress"]["StringValue"].as_str();
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| panic!("no progress: {message}"))
}

/// What of each post the event changes, in the order of `posts`.
async fn states(system: &System, posts: &[Uuid]) -> Vec<Value> {
    let mut states = Vec::new();
    for post in posts {
        let item = system.item("posts", &format!("post#{post}"), "post").await.expect("the item");
        states.push(json!([item["state"], item["author"]["name"]]));
    }
    states
}

#[tokio::test]
async fn an_item_that_fails_holds_up_no_other_and_is_changed_once_it_recovers() {
    let system = System::connect().await;
    for (event_type, changed) in
        [("user.updated", json!(["live", "Areum"])), ("user.deleted", json!(["deleted", null]))]
    {
        let person = system.registered("Ara").await;
        let mut posts = Vec::new();
        for number in 0..POSTS {
            posts.push(person.writes_post(&format!("Spring {number}")).await);
        }
        let list = format!("/posts?author={}", person.id);
        eventually("the posts are listed", async || {
            (system.get(&list).await.body["items"].as_array()?.len() == POSTS).then_some(())
        })
        .await;
        let unchanged = json!(["live", "Ara"]);
        // The middle one, so that others follow it.
        let (broken, mut one_left) = (POSTS / 2, vec![changed.clone(); POSTS]);
        one_left[broken] = unchanged.clone();
        let event = event(event_type, person.id, 9, &json!({"id": person.id, "name": "Areum"}));

        let (table, queue) = (Proxy::start(&system).await, Proxy::start(&system).await);
        let throttled = format!("post#{}", posts[broken]);
        table.refuse(move |call| {
            let concerns = call.operation != "Query" && call.input.to_string().contains(&throttled);
            concerns.then(Refusal::throttled)
        });
        // Nothing reaches the queue, because the real function would continue the cascade.
        queue.refuse(|_| Some(Refusal { status: 200, body: json!({}) }));
        let changes = Changes::endpoint("DYNAMODB", &table).with("AWS_ENDPOINT_URL_SQS", &queue.url);
        with_copy(&system, "posts-on-user", changes, async |copy| {
            assert_eq!(states(&system, &posts).await, vec![unchanged.clone(); POSTS], "{event_type}");
            let (failed, message) = deliver(copy, &queue, &event, None).await;
            assert_eq!(states(&system, &posts).await, one_left, "{event_type}");
            assert!(!failed);
            let again = progress(&message.expect("another pass"));
            assert_eq!(again, json!({"pass": 0, "after": null, "failed": 0, "failed_before": 1}));

            // As many fail as before: only now does the message fail, and is retried.
            assert_eq!(deliver(copy, &queue, &event, Some(&again)).await, (true, None), "{event_type}");
            assert_eq!(states(&system, &posts).await, one_left, "{event_type}");

            table.allow_all();
            let (failed, message) = deliver(copy, &queue, &event, Some(&again)).await;
            assert_eq!(states(&system, &posts).await, vec![changed.clone(); POSTS], "{event_type}");
            assert!(!failed);
            let last = progress(&message.expect("the last pass"));
            assert_eq!(last, json!({"pass": 1, "after": null, "failed": 0, "failed_before": null}));
            assert_eq!(deliver(copy, &queue, &event, Some(&last)).await, (false, None), "{event_type}");
        })
        .await;
    }
}
