//! Repeated requests.

use std::collections::HashSet;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Answer, System, eventually,
    shop::{CARD, DECLINED, assert_invariants, new_sku, order, usd, wait_until_settled},
    turns::{PROCESSORS, turn},
};
use uuid::Uuid;

/// Asserts that all answers have this status and the same body, and returns the body.
fn one_answer(answers: &[Answer], status: u16) -> &Value {
    assert!(answers.iter().all(|answer| answer.status == status), "{answers:?}");
    let bodies: HashSet<String> = answers.iter().map(|answer| answer.body.to_string()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    &answers[0].body
}

#[tokio::test]
async fn fifty_concurrent_repeats_create_one_post_and_get_one_answer() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let draft = json!({"title": "Once", "body": "And only once."});
    let answers =
        join_all((0..50).map(|_| ara.request(Method::POST, "/posts").key("once").json(&draft).send())).await;
    let post = one_answer(&answers, 201);
    let mine = eventually("the post is listed", async || {
        let mine = system.get(&format!("/posts?author={}", ara.id)).await.body["items"].clone();
        (mine != json!([])).then_some(mine)
    })
    .await;
    assert_eq!(mine, json!([post]));
}

#[tokio::test]
async fn fifty_concurrent_repeats_create_one_comment_and_one_notification() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let path = format!("/posts/{}/comments", ara.writes_commentable_post("Spring").await);
    let body = json!({"body": "Once."});
    let answers =
        join_all((0..50).map(|_| bada.request(Method::POST, &path).key("once").json(&body).send())).await;
    let comment = one_answer(&answers, 201);
    system.get(&path).await.is(200, &json!({"items": [comment], "next_cursor": null}));
    eventually("the notification arrives", async || ara.notifications("comment").await.pop()).await;
    system.wait_until_drained("notifications-on-comment").await;
    assert_eq!(ara.notifications("comment").await.len(), 1);
}

#[tokio::test]
async fn twenty_concurrent_repeats_create_one_order_that_is_paid_once() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let system = System::connect().await;
    let (admin, ara) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), 20).await;
    let body = order(&sku, 1, CARD);
    let answers =
        join_all((0..20).map(|_| ara.request(Method::POST, "/orders").key("once").json(&body).send())).await;
    let accepted = one_answer(&answers, 202);
    let id = answers[0].id();
    wait_until_settled(&system, &[id]).await;
    assert_eq!(assert_invariants(&system, &[id], &sku, 20).await, 1);
    let mine = eventually("the order is listed", async || {
        let mine = ara.get("/orders").await.body["items"].clone();
        (mine != json!([])).then_some(mine)
    })
    .await;
    assert_eq!(mine, json!([ara.get(&format!("/orders/{id}")).await.body]));
    assert_eq!(system.execution_status(&format!("{id}-2")).await, None);

    // A repeat gets the first answer, although the order has been confirmed since.
    let repeat = ara.request(Method::POST, "/orders").key("once").json(&body).send().await;
    repeat.is(202, accepted);
    assert_eq!(repeat.header("location"), answers[0].header("location"));
    let other = ara.request(Method::POST, "/orders").key("once").json(&order(&sku, 2, CARD)).send();
    other.await.is_problem(422, "idempotency-key-reused");
    let other = ara.request(Method::POST, "/orders").key("once").json(&order(&sku, 1, DECLINED)).send();
    other.await.is_problem(422, "idempotency-key-reused");
    assert_eq!(system.stock(&sku).await["on_hand"], 19);
}

#[tokio::test]
async fn fifty_concurrent_registrations_create_one_profile() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let body = json!({"name": "Ara"});
    let answers = join_all((0..50).map(|_| ara.post("/users", &body))).await;
    let (created, repeated): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!((created.len(), repeated.len()), (1, 49));
    for answer in repeated {
        answer.is(200, &created[0].body);
    }
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let send = |title: &str| {
        ara.request(Method::POST, "/posts").key("k").json(&json!({"title": title, "body": "b"})).send()
    };
    let first = send("One").await;
    send("Two").await.is_problem(422, "idempotency-key-reused");
    send("One").await.is(201, &first.body);
    // White space and the order of fields do not matter.
    let body = "{ \"body\":\"b\",\n\"title\":\"One\"}";
    let raw = ara.request(Method::POST, "/posts").key("k").raw("application/json", body);
    raw.send().await.is(201, &first.body);
}

#[tokio::test]
async fn the_same_key_of_another_user_or_endpoint_is_a_different_key() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let draft = json!({"title": "Same", "body": "b"});
    let hers = ara.request(Method::POST, "/posts").key("k").json(&draft).send().await;
    let his = bada.request(Method::POST, "/posts").key("k").json(&draft).send().await;
    assert_ne!(hers.id(), his.id());
    let (one, two) = (ara.writes_commentable_post("One").await, ara.writes_commentable_post("Two").await);
    let comment = |post: Uuid| {
        let path = format!("/posts/{post}/comments");
        ara.request(Method::POST, &path).key("k").json(&json!({"body": "c"})).send()
    };
    assert_ne!(comment(one).await.id(), comment(two).await.id());
}

#[tokio::test]
async fn without_a_key_each_request_creates_another_post() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    assert_ne!(ara.writes_post("Same").await, ara.writes_post("Same").await);
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_even_after_an_edit_or_a_deletion() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let draft = json!({"title": "One", "body": "b"});
    let send = || ara.request(Method::POST, "/posts").key("k").json(&draft).send();
    let first = send().await;
    let path = format!("/posts/{}", first.id());

    assert_eq!(ara.patch(&path, 1, &json!({"title": "Edited"})).await.status, 200);
    let repeat = send().await;
    repeat.is(201, &first.body);
    assert_eq!(repeat.header("location"), first.header("location"));
    assert_eq!(system.get(&path).await.body["title"], "Edited");

    ara.delete(&path).await.is(204, &Value::Null);
    send().await.is(201, &first.body);
    system.get(&path).await.is_problem(404, "not-found");
}
