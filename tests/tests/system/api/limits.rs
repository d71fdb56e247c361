//! Limits of what one person may create within an hour. The local system's are out of reach, so copies of the functions have low ones.

use aws_sdk_dynamodb::types::AttributeValue;
use kernel::{
    clock::Timestamp,
    idempotency::{CreationRequest, IdempotencyKey},
};
use serde_json::{Value, json};
use system_tests::{
    Answer, Person, System, eventually,
    faults::{Changes, Copy, http_input, with_copy},
    shop::{CARD, new_sku, order, order_id, usd},
};
use uuid::Uuid;

/// A copy's limit of 3 in this variable.
fn three(variable: &str) -> Changes {
    Changes::default().with(variable, "3")
}

/// Sends a request of a person with this `Idempotency-Key` and body.
async fn send(copy: &Copy, mut input: Value, key: &str, body: &Value) -> Answer {
    input["headers"]["idempotency-key"] = json!(format!("\"{key}\""));
    input["body"] = json!(body.to_string());
    copy.invoke(&input).await.http()
}

/// Asserts that a request was refused because of a limit of 3, and that the client is told to wait for so many seconds.
#[track_caller]
fn is_over(answer: &Answer, what: &str, seconds: std::ops::RangeInclusive<u32>) {
    answer.is_problem(429, "rate-limited");
    let wait: u32 = answer.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!(seconds.contains(&wait), "{wait} s");
    let detail =
        format!("one person may create 3 {what} an hour; the next one is possible in {wait} seconds");
    assert_eq!(answer.body["detail"], detail);
}

/// The id of what this person would create with this key.
fn id(person: &Person, endpoint: &str, key: &str) -> Uuid {
    let key = IdempotencyKey::parse(key.as_bytes()).unwrap();
    CreationRequest::new(person.id, endpoint, Some(&key), &()).id()
}

#[tokio::test]
async fn one_person_may_write_only_so_many_posts_an_hour_and_deleting_makes_no_room() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    with_copy(&system, "posts-create", three("POSTS_PER_HOUR"), async |copy| {
        let write = async |person: &Person, key: &str, title: &str| {
            let input = http_input("posts-create", person.id, "/posts", &json!({}));
            send(copy, input, key, &json!({"title": title, "body": "It rains."})).await
        };
        let first = write(&ara, "1", "Spring").await;
        assert_eq!(first.status, 201, "{first:?}");
        for key in ["2", "3"] {
            assert_eq!(write(&ara, key, "Spring").await.status, 201);
        }
        is_over(&write(&ara, "4", "Spring").await, "posts", 3500..=3600);
        // Nothing was written, so that nothing is published either.
        let refused = format!("post#{}", id(&ara, "POST /posts", "4"));
        assert_eq!(system.item("posts", &refused, "post").await, None);

        // A repeat creates nothing, so that it is not refused.
        write(&ara, "1", "Spring").await.is(201, &first.body);
        write(&ara, "1", "Summer").await.is_problem(422, "idempotency-key-reused");

        assert_eq!(ara.delete(&format!("/posts/{}", first.id())).await.status, 204);
        is_over(&write(&ara, "4", "Spring").await, "posts", 3500..=3600);
        write(&ara, "1", "Spring").await.is(201, &first.body);
        // What is deleted counts, but is not listed.
        let listed = system.get(&format!("/posts?author={}", ara.id)).await;
        assert_eq!(listed.body["items"].as_array().unwrap().len(), 2, "{listed:?}");

        assert_eq!(write(&bada, "1", "Spring").await.status, 201);
    })
    .await;
}

#[tokio::test]
async fn what_was_created_more_than_an_hour_ago_does_not_count() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let table = aws_sdk_dynamodb::Client::new(&system.aws);
    let text = |value: String| AttributeValue::S(value);
    // Tombstones, because they are not listed.
    for minutes in [70, 62, 61, 50] {
        let (id, created) = (Uuid::now_v7(), Timestamp::now().plus_seconds(-60 * minutes));
        let put = table.put_item().table_name("posts").item("pk", text(format!("post#{id}")));
        let put = put.item("sk", text("post".to_owned())).item("state", text("deleted".to_owned()));
        let put = put.item("author_id", text(format!("deleted#{}", ara.id)));
        let put = put.item("created", text(format!("{created}#{id}")));
        let number = |value: i64| AttributeValue::N(value.to_string());
        let put = put.item("version", number(2));
        let put = put.item("expires_at", number(created.plus_seconds(86400).as_second()));
        put.send().await.expect("PutItem");
    }
    with_copy(&system, "posts-create", three("POSTS_PER_HOUR"), async |copy| {
        let write = async |key: &str| {
            let input = http_input("posts-create", ara.id, "/posts", &json!({}));
            send(copy, input, key, &json!({"title": "Spring", "body": "It rains."})).await
        };
        for key in ["1", "2"] {
            assert_eq!(write(key).await.status, 201);
        }
        // The one of 50 minutes ago leaves first.
        is_over(&write("3").await, "posts", 500..=600);
    })
    .await;
}

#[tokio::test]
async fn one_person_may_write_only_so_many_comments_an_hour_and_no_further_ones_notify_anyone() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let posts = [ara.writes_commentable_post("Spring").await, ara.writes_commentable_post("Summer").await];
    with_copy(&system, "comments-create", three("COMMENTS_PER_HOUR"), async |copy| {
        let write = async |post: Uuid, key: &str| {
            let path = format!("/posts/{post}/comments");
            let input = http_input("comments-create", bada.id, &path, &json!({"id": post}));
            send(copy, input, key, &json!({"body": "So do I."})).await
        };
        let first = write(posts[0], "1").await;
        assert_eq!(first.status, 201, "{first:?}");
        for key in ["2", "3"] {
            assert_eq!(write(posts[0], key).await.status, 201);
        }
        // On whichever post, and although one of them is deleted.
        let path = format!("/posts/{}/comments/{}", posts[0], first.id());
        assert_eq!(bada.delete(&path).await.status, 204);
        for post in posts {
            is_over(&write(post, "4").await, "comments", 3500..=3600);
            let (pk, endpoint) = (format!("post#{post}"), format!("POST /posts/{post}/comments"));
            let refused = format!("comment#{}", id(&bada, &endpoint, "4"));
            assert_eq!(system.item("comments", &pk, &refused).await, None);
        }
        write(posts[0], "1").await.is(201, &first.body);
        // Whether there is such a post is decided first.
        write(Uuid::now_v7(), "4").await.is_problem(404, "not-found");
    })
    .await;
    eventually("the notifications of the accepted comments arrive", async || {
        (ara.notifications("comment").await.len() >= 2).then_some(())
    })
    .await;
    system.wait_until_drained("notifications-on-comment").await;
    assert!(ara.notifications("comment").await.len() <= 3);
}

#[tokio::test]
async fn one_person_may_place_only_so_many_orders_an_hour() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let (admin, sku) = (system.admin().await, new_sku("tea"));
    admin.stocks(&sku, &usd(450), 10).await;
    with_copy(&system, "orders-place", three("ORDERS_PER_HOUR"), async |copy| {
        let place = async |key: &str, quantity: u32| {
            let input = http_input("orders-place", buyer.id, "/orders", &json!({}));
            send(copy, input, key, &order(&sku, quantity, CARD)).await
        };
        let first = place("1", 1).await;
        assert_eq!(first.status, 202, "{first:?}");
        // A cancelled or rejected order counts like any other.
        for key in ["2", "3"] {
            assert_eq!(place(key, 100).await.status, 202);
        }
        is_over(&place("4", 1).await, "orders", 3500..=3600);
        let refused = order_id(&buyer, "4");
        assert_eq!(system.item("orders", &format!("order#{refused}"), "order").await, None);
        assert_eq!(system.execution_status(&refused.to_string()).await, None);

        place("1", 1).await.is(202, &first.body);
        place("1", 2).await.is_problem(422, "idempotency-key-reused");
    })
    .await;
}
