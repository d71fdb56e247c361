//! A table that throttles: nothing is half done, and nothing is lost.

use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{Call, Changes, Proxy, Refusal, dead_letters, http_input, with_copy, with_endpoint},
};
use uuid::Uuid;

use crate::DISTURBANCE;

#[tokio::test]
async fn a_post_that_a_throttled_table_refuses_is_a_503_and_the_same_request_succeeds_later() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let list = format!("/posts?author={}", person.id);
    // It comes with an Idempotency-Key.
    let input = http_input("posts-create", person.id, "/posts", &json!({}));
    let proxy = Proxy::start(&system).await;
    proxy.refuse(|call| (call.operation == "PutItem").then(Refusal::throttled));
    with_copy(&system, "posts-create", Changes::endpoint("DYNAMODB", &proxy), async |copy| {
        let refused = copy.invoke(&input).await.http();
        refused.is_problem(503, "unavailable");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(proxy.operations(), ["GetItem", "PutItem", "PutItem", "PutItem"]);
        system.get(&list).await.is(200, &json!({"items": [], "next_cursor": null}));

        proxy.let_go();
        let post = json!({
            "id": "<uuid>", "author": {"id": person.id, "name": "Ara"}, "title": "Spring in the courtyard",
            "body": "It rains.", "created_at": "<time>", "updated_at": "<time>", "version": 1,
        });
        let created = copy.invoke(&input).await.http();
        created.is(201, &post);
        // The index of the list follows the table.
        let listed = eventually("the post is listed", async || {
            let answer = system.get(&list).await;
            (answer.body["items"] != json!([])).then_some(answer)
        })
        .await;
        listed.is(200, &json!({"items": [created.body], "next_cursor": null}));
    })
    .await;
}

#[tokio::test]
async fn a_read_that_a_throttled_table_refuses_is_a_503() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    proxy.refuse(|_| Some(Refusal::throttled()));
    with_copy(&system, "posts-get", Changes::endpoint("DYNAMODB", &proxy), async |copy| {
        let id = Uuid::now_v7();
        let input = http_input("posts-get", id, &format!("/posts/{id}"), &json!({"id": id}));
        let refused = copy.invoke(&input).await.http();
        refused.is_problem(503, "unavailable");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(proxy.operations(), ["GetItem", "GetItem", "GetItem"]);
    })
    .await;
}

#[tokio::test]
async fn an_event_waits_in_its_queue_while_the_consumers_table_throttles() {
    let _alone = DISTURBANCE.lock().await;
    let system = System::connect().await;
    let (author, reader) = tokio::join!(system.registered("Ara"), system.registered("Bada"));
    author.is_welcomed().await;
    let post = author.writes_known_post("Spring").await;

    let proxy = Proxy::start(&system).await;
    let partition = json!(format!("user#{}", author.id));
    let concerned =
        move |call: &Call| call.operation == "PutItem" && call.input["Item"]["pk"]["S"] == partition;
    proxy.refuse({
        let concerned = concerned.clone();
        move |call| concerned(call).then(Refusal::throttled)
    });
    with_endpoint(&system, "notifications-on-comment", "DYNAMODB", &proxy, async || {
        let comment = reader.comments_on(post, "So do I.").await;
        // One delivery tries three times.
        eventually("the event is delivered a second time", async || {
            let tries = proxy.calls().iter().filter(|call| concerned(call)).count();
            (tries > 3).then_some(())
        })
        .await;
        assert!(system.depth("notifications-on-comment").await > 0);
        assert_eq!(author.notifications("comment").await, Vec::<Value>::new());

        proxy.let_go();
        let notifications = eventually("the notification arrives", async || {
            Some(author.notifications("comment").await).filter(|notifications| !notifications.is_empty())
        })
        .await;
        assert_eq!(notifications.len(), 1, "{notifications:?}");
        let comment = comment.to_string();
        let given_up = dead_letters(&system, "notifications-on-comment").await;
        assert!(!given_up.iter().any(|body| body.contains(&comment)), "{given_up:?}");
    })
    .await;
}
