//! A table that throttles: a refused request has no effect and can be repeated.

use serde_json::json;
use system_tests::{
    System, eventually,
    faults::{Changes, Proxy, Refusal, http_input, with_copy},
};
use uuid::Uuid;

#[tokio::test]
async fn a_write_to_a_throttled_table_is_a_503_and_its_repeat_succeeds() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let list = format!("/posts?author={}", person.id);
    // The input has an Idempotency-Key.
    let input = http_input("posts-create", person.id, "/posts", &json!({}));
    let proxy = Proxy::start(&system).await;
    proxy.refuse(|call| (call.operation == "PutItem").then(Refusal::throttled));
    with_copy(&system, "posts-create", Changes::endpoint("DYNAMODB", &proxy), async |copy| {
        let refused = copy.invoke(&input).await.http();
        refused.is_problem(503, "unavailable");
        assert_eq!(refused.header("retry-after"), Some("1"));
        let reads_then_writes = ["GetItem", "Query", "Query", "PutItem", "PutItem", "PutItem"];
        assert_eq!(proxy.operations_with_reads_sorted(), reads_then_writes);
        system.get(&list).await.is(200, &json!({"items": [], "next_cursor": null}));

        proxy.allow_all();
        let post = json!({
            "id": "<uuid>", "author": {"id": person.id, "name": "Ara"}, "title": "Spring",
            "body": "It rains.", "created_at": "<time>", "updated_at": "<time>", "version": 1,
        });
        let created = copy.invoke(&input).await.http();
        created.is(201, &post);
        // The index of the list is eventually consistent.
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
async fn a_read_from_a_throttled_table_is_a_503() {
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
