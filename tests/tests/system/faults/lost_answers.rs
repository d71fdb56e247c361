//! Answers that are lost after the change was made: the connection breaks between AWS's commit and its answer.
//!
//! A proxy loses the answer to every write that a function makes, one write after the other: first of one attempt, so that the
//! retry meets the function's own write, then of all attempts that the SDK makes. In the end each change was made once, and the
//! client was told so, or was told that it may have been made.

use std::{collections::HashMap, time::Duration};

use futures::{FutureExt, future::LocalBoxFuture};
use hmac::{Hmac, KeyInit, Mac};
use kernel::{
    clock::Timestamp,
    idempotency::{CreationRequest, IdempotencyKey},
};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use system_tests::{
    Answer, Person, System, assert_json, eventually,
    faults::{
        Changes, Copy, Invoked, Proxy, Refusal, batch, event, finally, http_input, input, reported, with_copy,
    },
    shop::{CARD, OrderRecords, new_sku, order, order_id, usd, wait_until_settled},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// The SDK's attempts at one call.
const ATTEMPTS: usize = 3;
/// Maximum time that a delivery of a mail keeps others from mailing it.
const LONGEST_LEASE: Duration = Duration::from_mins(4);

/// What an invocation must lead to.
struct Case<'a, E> {
    input: Value,
    expected: E,
    /// Asserts that the change was made once.
    effect: LocalBoxFuture<'a, ()>,
}

/// The answers that were lost in an invocation.
#[derive(Debug)]
struct Lost {
    /// The write whose answers they are; none if the invocation makes no further write.
    operation: Option<String>,
    times: usize,
}

impl Lost {
    /// Whether the function cannot know what happened: none of its attempts was answered.
    fn all(&self) -> bool {
        // A mail may be tried once only, because every further attempt could send it again.
        self.times == ATTEMPTS || self.operation.as_deref() == Some("SendEmail")
    }
}

/// Invokes a copy of a function once for every write that it makes and every number of lost answers, and at last without a
/// loss. `check` gets the outcome of each invocation.
async fn for_every_write<'a, E>(
    system: &System,
    function: &str,
    prepare: impl AsyncFn() -> Case<'a, E>,
    check: impl AsyncFn(&Copy, Case<'a, E>, Result<Invoked, Invoked>, &Lost),
) {
    let proxy = Proxy::start(system).await;
    with_copy(system, function, Changes::endpoints(&proxy), async |copy| {
        lose_each(copy, &proxy, prepare, check).await;
    })
    .await;
}

/// The invocations of [`for_every_write`], with a copy whose calls go through the proxy.
async fn lose_each<'a, E>(
    copy: &Copy,
    proxy: &Proxy,
    prepare: impl AsyncFn() -> Case<'a, E>,
    check: impl AsyncFn(&Copy, Case<'a, E>, Result<Invoked, Invoked>, &Lost),
) {
    for write in 0.. {
        for times in [1, ATTEMPTS] {
            // Boxed to keep the enclosing futures small.
            let case = prepare().boxed_local().await;
            proxy.lose_answers(write, times);
            let outcome = copy.outcome(&case.input).await;
            let lost = proxy.lost();
            proxy.allow_all();
            let lost = Lost { operation: lost.first().map(|call| call.operation.clone()), times: lost.len() };
            println!("write {write}: {lost:?}");
            check(copy, case, outcome, &lost).boxed_local().await;
            if lost.times == 0 {
                assert!(write > 0, "it makes no write");
                return;
            }
        }
    }
}

/// The expected answer of an endpoint.
enum Expected {
    Reply(u16, Value),
    Problem(u16, &'static str),
}

impl Expected {
    #[track_caller]
    fn check(&self, answer: &Answer) {
        match self {
            Self::Reply(status, body) => answer.is(*status, body),
            Self::Problem(status, kind) => answer.is_problem(*status, kind),
        };
    }
}

/// Asserts that an endpoint answers as if nothing had been lost, or 503 if it cannot know, that the repeated request gets the
/// second of the expected answers, and that the change was made once.
async fn assert_endpoint<'a>(
    system: &System,
    function: &str,
    prepare: impl AsyncFn() -> Case<'a, (Expected, Expected)>,
) {
    for_every_write(system, function, prepare, check_endpoint).await;
}

async fn check_endpoint(
    copy: &Copy,
    case: Case<'_, (Expected, Expected)>,
    outcome: Result<Invoked, Invoked>,
    lost: &Lost,
) {
    let (expected, expected_of_repeat) = case.expected;
    let answer = outcome.unwrap_or_else(|error| panic!("{lost:?}: {error:?}")).http();
    let unknown = lost.all() && answer.status == 503;
    if unknown {
        answer.is_problem(503, "unavailable");
        let detail = answer.body["detail"].as_str().unwrap();
        // "may have been made", in whatever words: the client must not take it for a failure.
        assert!(detail.contains("have been made"), "{lost:?}: {detail}");
    } else {
        expected.check(&answer);
    }
    let repeated = copy.invoke(&case.input).await.http();
    expected_of_repeat.check(&repeated);
    if let (Expected::Reply(status, _), Expected::Reply(again, _), false) =
        (&expected, &expected_of_repeat, unknown)
        && status == again
    {
        assert_eq!(answer.body, repeated.body, "{lost:?}");
    }
    case.effect.await;
}

/// Asserts that a step answers as if nothing had been lost, or `Unavailable` if it cannot know, that its retry gets the same
/// answer, and that the change was made once. An expected error is the name of a refusal.
async fn assert_step<'a>(
    system: &System,
    function: &str,
    prepare: impl AsyncFn() -> Case<'a, Result<Value, &'static str>>,
) {
    let is_expected =
        |outcome: Result<Invoked, Invoked>, expected: &Result<Value, &'static str>| match (outcome, expected)
        {
            (Ok(done), Ok(expected)) => assert_json(&done.answer, expected),
            (Err(refused), Err(expected)) => {
                assert!(refused.answer["errorType"] == *expected, "{refused:?}");
            }
            (outcome, expected) => panic!("expected {expected:?}: {outcome:?}"),
        };
    let check = async |copy: &Copy, case: Case<'a, _>, outcome: Result<Invoked, Invoked>, lost: &Lost| {
        match outcome {
            Err(failed) if lost.all() && failed.answer["errorType"] == "Unavailable" => {}
            outcome => is_expected(outcome, &case.expected),
        }
        is_expected(copy.outcome(&case.input).await, &case.expected);
        case.effect.await;
    };
    for_every_write(system, function, prepare, check).await;
}

/// Asserts that a consumer handles its message as if nothing had been lost, or reports it as failed if it cannot know, that
/// further deliveries lead to success, and that the change was made once.
async fn assert_consumer<'a>(system: &System, function: &str, prepare: impl AsyncFn() -> Case<'a, ()>) {
    for_every_write(system, function, prepare, check_consumer).await;
}

async fn check_consumer(copy: &Copy, case: Case<'_, ()>, outcome: Result<Invoked, Invoked>, lost: &Lost) {
    let answer = outcome.unwrap_or_else(|error| panic!("{lost:?}: {error:?}")).answer;
    if !reported(&answer).is_empty() {
        assert!(lost.all(), "{lost:?}: {answer}");
    }
    // A delivery of the mail that failed may hold its lease for a while.
    let start = Instant::now();
    while !reported(&copy.invoke(&case.input).await.answer).is_empty() {
        assert!(start.elapsed() < LONGEST_LEASE, "{lost:?}: no further delivery succeeds");
        sleep(Duration::from_secs(1)).await;
    }
    case.effect.await;
}

/// Asserts that an item is stored with these attributes among others. `<time>` stands for any time.
async fn assert_stored(system: &System, table: &str, (pk, sk): (&str, &str), expected: &Value) {
    let item = system.item(table, pk, sk).await.unwrap_or_else(|| panic!("{table} has no {pk} {sk}"));
    let selected = select(&item, expected);
    assert_json(&selected, expected);
}

/// The members of a value that another one has, too.
fn select(value: &Value, like: &Value) -> Value {
    let Value::Object(like) = like else { return value.clone() };
    like.iter().map(|(name, like)| (name.clone(), select(&value[name], like))).collect()
}

/// What is stored after one change from version `version - 1`: this version, with one event.
fn changed(version: u64, event_type: &str) -> Value {
    json!({"version": version, "outbox": {"type": event_type, "sequence": version}})
}

/// An `Idempotency-Key` that no other test uses, as a header's value.
fn set_new_key(input: &mut Value) -> IdempotencyKey {
    let key = format!("\"{}\"", new_sku("key"));
    input["headers"]["idempotency-key"] = json!(key);
    IdempotencyKey::parse(key.as_bytes()).expect("a key")
}

/// The id that a request with this key gives to what it creates.
fn created_id(person: &Person, endpoint: &str, key: &IdempotencyKey) -> Uuid {
    CreationRequest::new(person.id, endpoint, Some(key), &()).id()
}

#[tokio::test]
async fn a_profile_is_registered_renamed_and_deleted_once_and_the_answer_says_so() {
    let system = System::connect().await;
    let stored = |person: &Person, expected: Value| {
        let (system, pk) = (system.clone(), format!("user#{}", person.id));
        async move { assert_stored(&system, "users", (&pk, "profile"), &expected).await }.boxed_local()
    };
    let profile = |person: &Person, name: &str, version: u64| json!({"id": person.id, "name": name, "email": person.email, "created_at": "<time>", "version": version});
    assert_endpoint(&system, "users-register", async || {
        let person = system.sign_up().await;
        let mut input = http_input("users-register", person.id, "/users", &json!({}));
        input["body"] = json!(r#"{"name": "Ara"}"#);
        set_new_key(&mut input);
        let created = profile(&person, "Ara", 1);
        Case {
            input,
            expected: (Expected::Reply(201, created.clone()), Expected::Reply(200, created)),
            effect: stored(&person, changed(1, "user.created")),
        }
    })
    .await;
    assert_endpoint(&system, "users-update", async || {
        let person = system.registered("Ara").await;
        let mut input = http_input("users-update", person.id, "/users/me", &json!({}));
        input["body"] = json!(r#"{"name": "Areum"}"#);
        let renamed = Expected::Reply(200, profile(&person, "Areum", 2));
        Case {
            input,
            expected: (renamed, Expected::Problem(412, "stale-version")),
            effect: stored(&person, changed(2, "user.updated")),
        }
    })
    .await;
    assert_endpoint(&system, "users-delete", async || {
        let person = system.registered("Ara").await;
        Case {
            input: http_input("users-delete", person.id, "/users/me", &json!({})),
            expected: (Expected::Reply(202, Value::Null), Expected::Problem(403, "profile-deleted")),
            effect: stored(&person, changed(2, "user.deleted")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_post_is_created_edited_and_deleted_once_and_the_answer_says_so() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let stored = |post: Uuid, expected: Value| {
        let (system, pk) = (system.clone(), format!("post#{post}"));
        async move { assert_stored(&system, "posts", (&pk, "post"), &expected).await }.boxed_local()
    };
    let view = |title: &str, version: u64| {
        json!({
            "id": "<uuid>", "author": {"id": person.id, "name": "Ara"}, "title": title, "body": "It rains.",
            "created_at": "<time>", "updated_at": "<time>", "version": version,
        })
    };
    assert_endpoint(&system, "posts-create", async || {
        let mut input = http_input("posts-create", person.id, "/posts", &json!({}));
        input["body"] = json!(r#"{"title": "Spring", "body": "It rains."}"#);
        let key = set_new_key(&mut input);
        let created = || Expected::Reply(201, view("Spring", 1));
        let id = created_id(&person, "POST /posts", &key);
        Case { input, expected: (created(), created()), effect: stored(id, changed(1, "post.created")) }
    })
    .await;
    assert_endpoint(&system, "posts-update", async || {
        let post = person.writes_post("Spring").await;
        let mut input =
            http_input("posts-update", person.id, &format!("/posts/{post}"), &json!({"id": post}));
        input["body"] = json!(r#"{"title": "Summer"}"#);
        let edited = Expected::Reply(200, view("Summer", 2));
        Case {
            input,
            expected: (edited, Expected::Problem(412, "stale-version")),
            effect: stored(post, changed(2, "post.updated")),
        }
    })
    .await;
    assert_endpoint(&system, "posts-delete", async || {
        let post = person.writes_post("Spring").await;
        Case {
            input: http_input("posts-delete", person.id, &format!("/posts/{post}"), &json!({"id": post})),
            expected: (Expected::Reply(204, Value::Null), Expected::Problem(404, "not-found")),
            effect: stored(post, changed(2, "post.deleted")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_comment_is_created_edited_and_deleted_once_and_the_answer_says_so() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let post = person.writes_commentable_post("Spring").await;
    let stored = |comment: Uuid, expected: Value| {
        let (system, pk, sk) = (system.clone(), format!("post#{post}"), format!("comment#{comment}"));
        async move { assert_stored(&system, "comments", (&pk, &sk), &expected).await }.boxed_local()
    };
    let view = |body: &str, version: u64| {
        json!({
            "id": "<uuid>", "post_id": post, "author": {"id": person.id, "name": "Ara"}, "body": body,
            "created_at": "<time>", "updated_at": "<time>", "version": version,
        })
    };
    let of_comment = |function: &str, comment: Uuid| {
        let path = format!("/posts/{post}/comments/{comment}");
        http_input(function, person.id, &path, &json!({"id": post, "comment_id": comment}))
    };
    assert_endpoint(&system, "comments-create", async || {
        let path = format!("/posts/{post}/comments");
        let mut input = http_input("comments-create", person.id, &path, &json!({"id": post}));
        input["body"] = json!(r#"{"body": "So do I."}"#);
        let key = set_new_key(&mut input);
        let created = || Expected::Reply(201, view("So do I.", 1));
        let id = created_id(&person, &format!("POST {path}"), &key);
        Case { input, expected: (created(), created()), effect: stored(id, changed(1, "comment.created")) }
    })
    .await;
    assert_endpoint(&system, "comments-update", async || {
        let comment = person.comments_on(post, "So do I.").await;
        let mut input = of_comment("comments-update", comment);
        input["body"] = json!(r#"{"body": "Not I."}"#);
        let edited = Expected::Reply(200, view("Not I.", 2));
        Case {
            input,
            expected: (edited, Expected::Problem(412, "stale-version")),
            effect: stored(comment, changed(2, "comment.updated")),
        }
    })
    .await;
    assert_endpoint(&system, "comments-delete", async || {
        let comment = person.comments_on(post, "So do I.").await;
        Case {
            input: of_comment("comments-delete", comment),
            expected: (Expected::Reply(204, Value::Null), Expected::Problem(404, "not-found")),
            effect: stored(comment, changed(2, "comment.deleted")),
        }
    })
    .await;
}

#[tokio::test]
async fn notifications_are_marked_as_read_and_preferences_are_set_once_and_the_answer_says_so() {
    let system = System::connect().await;
    let done = || Expected::Reply(204, Value::Null);
    let stored = |person: &Person, sk: String, expected: Value| {
        let (system, pk) = (system.clone(), format!("user#{}", person.id));
        async move { assert_stored(&system, "notifications", (&pk, &sk), &expected).await }.boxed_local()
    };
    let welcomed = async || {
        let person = system.registered("Ara").await;
        person.wait_for_welcome().await;
        person
    };
    assert_endpoint(&system, "notifications-read", async || {
        let person = welcomed().await;
        let id = person.notifications("welcome").await.remove(0)["id"].as_str().unwrap().to_owned();
        let path = format!("/notifications/{id}/read");
        Case {
            input: http_input("notifications-read", person.id, &path, &json!({"id": id})),
            expected: (done(), done()),
            effect: stored(
                &person,
                format!("notification#{id}"),
                json!({"read_at": "<time>", "unread": null}),
            ),
        }
    })
    .await;
    assert_endpoint(&system, "notifications-read", async || {
        let person = welcomed().await;
        Case {
            input: http_input("notifications-read", person.id, "/notifications/read-all", &json!({})),
            expected: (done(), done()),
            effect: stored(&person, "settings".to_owned(), json!({"read_until": "<time>"})),
        }
    })
    .await;
    // The first preferences are created with `If-None-Match: *`, or replace version 0.
    for (header, value, status) in [("if-none-match", "*", 201), ("if-match", "\"0\"", 200)] {
        assert_endpoint(&system, "notifications-preferences", async || {
            let person = welcomed().await;
            let path = "/notifications/preferences";
            let mut input = http_input("notifications-preferences", person.id, path, &json!({}));
            input["headers"].as_object_mut().unwrap().remove("if-none-match");
            input["headers"][header] = json!(value);
            input["body"] = json!(r#"{"email": true}"#);
            let set = Expected::Reply(status, json!({"email": true}));
            Case {
                input,
                expected: (set, Expected::Problem(412, "stale-version")),
                effect: stored(&person, "settings".to_owned(), json!({"email": true, "version": 1})),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn an_item_is_listed_and_edited_once_and_the_answer_says_so() {
    let system = System::connect().await;
    let admin = system.admin().await;
    let item = |sku: &str, on_hand: u64, version: u64| {
        json!({
            "sku": sku, "name": "Green tea", "unit_price": usd(450), "on_hand": on_hand, "reserved": 0,
            "available": on_hand, "version": version,
        })
    };
    let put = |sku: &str, (header, value): (&str, &str), on_hand: u64| {
        let path = format!("/inventory/{sku}");
        let mut input = http_input("inventory-put", admin.id, &path, &json!({"sku": sku}));
        input["headers"].as_object_mut().unwrap().remove("if-none-match");
        input["headers"][header] = json!(value);
        let body = json!({"name": "Green tea", "unit_price": usd(450), "on_hand": on_hand});
        input["body"] = json!(body.to_string());
        input
    };
    let stale = || Expected::Problem(412, "stale-version");
    let shown = |sku: String, expected: Value| {
        let system = system.clone();
        async move { assert_json(&system.stock(&sku).await, &expected) }.boxed_local()
    };
    assert_endpoint(&system, "inventory-put", async || {
        let sku = new_sku("tea");
        let listed = item(&sku, 7, 1);
        Case {
            input: put(&sku, ("if-none-match", "*"), 7),
            expected: (Expected::Reply(201, listed.clone()), stale()),
            effect: shown(sku, listed),
        }
    })
    .await;
    assert_endpoint(&system, "inventory-put", async || {
        let sku = new_sku("tea");
        admin.stocks(&sku, &usd(450), 7).await;
        let edited = item(&sku, 9, 2);
        Case {
            input: put(&sku, ("if-match", "\"1\""), 9),
            expected: (Expected::Reply(200, edited.clone()), stale()),
            effect: shown(sku, edited),
        }
    })
    .await;
}

/// Stores an order that is pending and that no execution handles, with a reason if it is aborted.
async fn pending_order(buyer: &Person, reason: Option<&str>) -> Uuid {
    let (id, now) = (Uuid::now_v7(), Timestamp::now());
    // So late that the reconciler leaves the order alone until the test has removed it.
    let check_at = now.plus_seconds(3600);
    let order = json!({
        "pk": format!("order#{id}"), "sk": "order", "state": "live", "id": id, "buyer_id": buyer.id,
        "items": [{"sku": "celadon-cup", "quantity": 2}], "payment_method": CARD, "expected_total": null,
        "status": "PENDING", "prices": null, "reason": reason, "parked": false, "visit": null, "attempt": 1,
        "settled": false, "check_at": check_at, "created_at": now, "updated_at": now, "version": 1,
        "traceparent": null, "created": format!("{now}#{id}"), "due": format!("{check_at}#{id}"), "request": "none",
    });
    let table = aws_sdk_dynamodb::Client::new(&buyer.system.aws);
    let item = serde_dynamo::to_item(order).expect("an item");
    table.put_item().table_name("orders").set_item(Some(item)).send().await.expect("PutItem");
    id
}

/// Asserts that an order is stored with these attributes among others, and removes it.
async fn was_stored(system: &System, id: Uuid, expected: &Value) {
    let pk = format!("order#{id}");
    assert_stored(system, "orders", (&pk, "order"), expected).await;
    let text = |value: &str| aws_sdk_dynamodb::types::AttributeValue::S(value.to_owned());
    let table = aws_sdk_dynamodb::Client::new(&system.aws);
    let remove = table.delete_item().table_name("orders").key("pk", text(&pk)).key("sk", text("order"));
    remove.send().await.expect("DeleteItem");
}

#[tokio::test]
async fn an_order_is_placed_started_and_cancelled_once_and_the_answer_says_so() {
    let system = System::connect().await;
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), 100).await;
    let view = |sku: &str, quantity: u32, status: &str, version: u64| {
        json!({
            "id": "<uuid>", "status": status, "items": [{"sku": sku, "quantity": quantity, "unit_price": null}],
            "total": null, "created_at": "<time>", "updated_at": "<time>", "version": version,
        })
    };
    assert_endpoint(&system, "orders-place", async || {
        let mut input = http_input("orders-place", buyer.id, "/orders", &json!({}));
        let key = new_sku("key");
        input["headers"]["idempotency-key"] = json!(format!("\"{key}\""));
        input["body"] = json!(order(&sku, 1, CARD).to_string());
        let placed = || Expected::Reply(202, view(&sku, 1, "PENDING", 1));
        let (system, id) = (system.clone(), order_id(&buyer, &key));
        let started_once = async move {
            // If the order's own answer was lost, too, the reconciler may have to start it.
            system.wait_until_started(&id.to_string()).await;
            wait_until_settled(&system, &[id]).await;
            assert_eq!(system.execution_status(&format!("{id}-2")).await, None);
            let records = OrderRecords::read(&system, id).await;
            assert_eq!((records.order.as_str(), records.violation()), ("CONFIRMED", None));
        };
        Case { input, expected: (placed(), placed()), effect: started_once.boxed_local() }
    })
    .await;
    assert_endpoint(&system, "orders-cancel", async || {
        let id = pending_order(&buyer, None).await;
        let mut cancelled = view("celadon-cup", 2, "CANCELLED", 2);
        cancelled["reason"] = json!("cancelled_by_user");
        let cancelled = || Expected::Reply(202, cancelled.clone());
        let system = system.clone();
        let path = format!("/orders/{id}/cancel");
        Case {
            input: http_input("orders-cancel", buyer.id, &path, &json!({"id": id})),
            expected: (cancelled(), cancelled()),
            effect: async move { was_stored(&system, id, &changed(2, "order.cancelled")).await }
                .boxed_local(),
        }
    })
    .await;
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_once_is_started_at_once() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let proxy = Proxy::start(&system).await;
    with_copy(&system, "orders-place", Changes::endpoints(&proxy), async |copy| {
        for (write, operation) in ["PutItem", "StartExecution"].into_iter().enumerate() {
            let key = new_sku("key");
            let mut input = http_input("orders-place", buyer.id, "/orders", &json!({}));
            input["headers"]["idempotency-key"] = json!(format!("\"{key}\""));
            input["body"] = json!(order(&new_sku("unknown"), 1, CARD).to_string());
            proxy.lose_answers(write, 1);
            let invoked = copy.invoke(&input).await;
            assert_eq!(invoked.http().status, 202, "{invoked:?}");
            let lost: Vec<String> = proxy.lost().into_iter().map(|call| call.operation).collect();
            assert_eq!(lost, [operation]);
            let execution = order_id(&buyer, &key).to_string();
            assert!(
                system.execution_status(&execution).await.is_some(),
                "{operation}: {execution} was not started"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn the_steps_of_orders_decide_once() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let lines = json!([{"sku": "celadon-cup", "quantity": 2, "unit_price": usd(1250)}]);
    let stored = |id: Uuid, expected: Value| {
        let system = system.clone();
        async move { was_stored(&system, id, &expected).await }.boxed_local()
    };
    assert_step(&system, "orders-confirm", async || {
        let id = pending_order(&buyer, None).await;
        let mut confirmed = changed(2, "order.confirmed");
        confirmed["status"] = json!("CONFIRMED");
        Case {
            input: json!({"order_id": id, "lines": lines, "total": usd(2500), "traceparent": null}),
            expected: Ok(json!({})),
            effect: stored(id, confirmed),
        }
    })
    .await;
    assert_step(&system, "orders-abort", async || {
        let id = pending_order(&buyer, None).await;
        Case {
            input: json!({"order_id": id, "error": "Payment.Declined", "lines": lines, "total": usd(2500), "traceparent": null}),
            expected: Ok(json!({"reason": "payment_declined"})),
            // An abort publishes no event.
            effect: stored(id, json!({"status": "PENDING", "reason": "payment_declined", "version": 2, "outbox": null})),
        }
    })
    .await;
    assert_step(&system, "orders-reject", async || {
        let id = pending_order(&buyer, Some("payment_declined")).await;
        let mut rejected = changed(2, "order.rejected");
        rejected["settled"] = json!(true);
        Case {
            input: json!({"order_id": id, "traceparent": null}),
            expected: Ok(json!({"status": "REJECTED", "reason": "payment_declined"})),
            effect: stored(id, rejected),
        }
    })
    .await;
    assert_step(&system, "orders-park", async || {
        let id = pending_order(&buyer, None).await;
        let mut parked = changed(2, "order.needs_attention");
        parked["parked"] = json!(true);
        Case {
            input: json!({
                "order_id": id, "error": "States.Timeout", "execution": id, "entry": "1/0", "traceparent": null,
            }),
            expected: Err("Order.NeedsAttention"),
            effect: stored(id, parked),
        }
    })
    .await;
}

#[tokio::test]
async fn the_steps_of_inventory_move_the_stock_once() {
    let system = System::connect().await;
    let admin = system.admin().await;
    let stored = |order: Uuid, sku: &str, counts: [u64; 3], event: Value| {
        let (system, sku) = (system.clone(), sku.to_owned());
        async move {
            let stock = system.stock(&sku).await;
            let found = ["on_hand", "reserved", "available"].map(|name| stock[name].as_u64().unwrap());
            assert_eq!(found, counts, "{stock}");
            assert_stored(&system, "inventory", (&format!("order#{order}"), "reservation"), &event).await;
        }
        .boxed_local()
    };
    let reserve = |order: Uuid, sku: &str| {
        let items = json!([{"sku": sku, "quantity": 2}]);
        json!({"order_id": order, "items": items, "expected_total": null, "traceparent": null})
    };
    let listed = async || {
        let sku = new_sku("tea");
        admin.stocks(&sku, &usd(450), 10).await;
        (Uuid::now_v7(), sku)
    };
    let reserved = async || {
        let (order, sku) = listed().await;
        system.step("inventory-reserve", &reserve(order, &sku)).await.expect("reserved");
        (order, sku)
    };
    assert_step(&system, "inventory-reserve", async || {
        let (order, sku) = listed().await;
        let lines = json!([{"sku": sku, "quantity": 2, "unit_price": usd(450)}]);
        Case {
            input: reserve(order, &sku),
            expected: Ok(json!({"lines": lines, "total": usd(900)})),
            effect: stored(order, &sku, [10, 2, 8], changed(1, "inventory.reserved")),
        }
    })
    .await;
    for (function, counts, event_type) in [
        ("inventory-release", [10, 0, 10], "inventory.released"),
        ("inventory-commit", [8, 0, 8], "inventory.committed"),
    ] {
        assert_step(&system, function, async || {
            let (order, sku) = reserved().await;
            Case {
                input: json!({"order_id": order, "traceparent": null}),
                expected: Ok(json!({})),
                effect: stored(order, &sku, counts, changed(2, event_type)),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn the_steps_of_payments_move_the_money_once() {
    let system = System::connect().await;
    let buyer = Uuid::now_v7();
    let purchase = |order: Uuid| json!({"order_id": order, "buyer_id": buyer, "amount": usd(900), "payment_method": CARD, "traceparent": null});
    let stored = |order: Uuid, event: Value, intent: Value| {
        let system = system.clone();
        async move {
            assert_stored(&system, "payments", (&format!("payment#{order}"), "payment"), &event).await;
            assert_stored(&system, "payments", (&format!("sandbox#{order}"), "intent"), &intent).await;
        }
        .boxed_local()
    };
    assert_step(&system, "payments-authorize", async || {
        let order = Uuid::now_v7();
        let intent = json!({"status": "held", "version": 1});
        Case {
            input: purchase(order),
            expected: Ok(json!({})),
            effect: stored(order, changed(2, "payment.authorized"), intent),
        }
    })
    .await;
    for (function, event_type, status) in [
        ("payments-capture", "payment.captured", "captured"),
        ("payments-cancel", "payment.cancelled", "cancelled"),
    ] {
        assert_step(&system, function, async || {
            let order = Uuid::now_v7();
            system.step("payments-authorize", &purchase(order)).await.expect("authorized");
            let intent = json!({"status": status, "version": 2});
            Case {
                input: json!({"order_id": order, "traceparent": null}),
                expected: Ok(json!({})),
                effect: stored(order, changed(3, event_type), intent),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_webhook_is_remembered_once_and_the_answer_says_so() {
    const WEBHOOK_SECRET: &str = "whsec_of_this_test";
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    let webhook = || {
        let body =
            json!({"id": format!("evt_{}", Uuid::now_v7().simple()), "data": {"object": {}}}).to_string();
        let time = Timestamp::now().as_second();
        let mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).unwrap();
        let mac = mac.chain_update(format!("{time}.{body}")).finalize().into_bytes();
        let mut input = http_input("payments-webhook", Uuid::nil(), "/payments/webhook", &json!({}));
        input["headers"]["stripe-signature"] = json!(format!("t={time},v1={}", hex::encode(mac)));
        input["body"] = json!(body);
        input
    };
    // Stripe is not called, because the webhooks are about no order of ours.
    let changes = Changes::endpoints(&proxy)
        .with("PAYMENT_PROVIDER", "stripe")
        .with("STRIPE_API_URL", "http://127.0.0.1:1");
    with_copy(&system, "payments-webhook", changes, async |copy| {
        // The proxy answers for Secrets Manager until the copy has read its keys.
        proxy.refuse(|call| {
            let keys = json!({"secret_key": "sk_of_this_test", "webhook_secret": WEBHOOK_SECRET}).to_string();
            let answer = json!({"ARN": "arn:of:this:test", "Name": "keys", "SecretString": keys});
            (call.operation == "GetSecretValue").then_some(Refusal { status: 200, body: answer })
        });
        copy.invoke(&webhook()).await.http().is(200, &json!({"received": true}));
        let prepare = async || {
            let input = webhook();
            let id = serde_json::from_str::<Value>(input["body"].as_str().unwrap()).unwrap()["id"].clone();
            let pk = format!("webhook#{}", id.as_str().unwrap());
            let system = system.clone();
            let remembered =
                async move { assert!(system.item("payments", &pk, "webhook").await.is_some(), "{pk}") };
            let received = || Expected::Reply(200, json!({"received": true}));
            Case { input, expected: (received(), received()), effect: remembered.boxed_local() }
        };
        lose_each(copy, &proxy, prepare, check_endpoint).await;
    })
    .await;
}

#[tokio::test]
async fn a_deleted_users_login_is_removed_once() {
    let system = System::connect().await;
    assert_consumer(&system, "users-on-user", async || {
        let mut person = system.registered("Ara").await;
        let deleted = event("user.deleted", person.id, 2, &json!({"id": person.id}));
        let gone = async move { assert!(person.sign_in().await.is_err(), "{person:?} can sign in") };
        Case { input: batch("users-on-user", &[deleted]), expected: (), effect: gone.boxed_local() }
    })
    .await;
}

/// The events of a user, with the copy that each results in.
fn user_events(id: Uuid) -> [(Value, Value); 3] {
    let named = |name: &str| json!({"id": id, "name": name});
    [
        (event("user.created", id, 1, &named("Ara")), json!({"name": "Ara", "sequence": 1})),
        (event("user.updated", id, 2, &named("Areum")), json!({"name": "Areum", "sequence": 2})),
        (event("user.deleted", id, 3, &json!({"id": id})), json!({"name": null, "sequence": 3})),
    ]
}

/// Asserts that a consumer of users' events makes one copy of each.
async fn assert_copies(system: &System, function: &str, table: &'static str) {
    for index in 0..3 {
        assert_consumer(system, function, async || {
            let id = Uuid::now_v7();
            let (event, copy) = user_events(id)[index].clone();
            let system = system.clone();
            let effect =
                async move { assert_stored(&system, table, (&format!("user#{id}"), "user"), &copy).await };
            Case { input: batch(function, &[event]), expected: (), effect: effect.boxed_local() }
        })
        .await;
    }
}

#[tokio::test]
async fn orders_copies_each_user_once() {
    let system = System::connect().await;
    assert_copies(&system, "orders-on-user", "orders").await;
}

#[tokio::test]
async fn a_users_posts_are_renamed_and_deleted_once() {
    let system = System::connect().await;
    assert_copies(&system, "posts-on-user", "posts").await;
    let cases = [
        ("user.updated", json!({"version": 1, "author": {"name": "Areum"}, "author_sequence": 9})),
        ("user.deleted", changed(2, "post.deleted")),
    ];
    for (event_type, expected) in cases {
        assert_consumer(&system, "posts-on-user", async || {
            let person = system.registered("Ara").await;
            let post = person.writes_post("Spring").await;
            let (system, expected) = (system.clone(), expected.clone());
            let effect = async move {
                assert_stored(&system, "posts", (&format!("post#{post}"), "post"), &expected).await;
            };
            let event = event(event_type, person.id, 9, &json!({"id": person.id, "name": "Areum"}));
            is_listed(&person, post).await;
            Case { input: batch("posts-on-user", &[event]), expected: (), effect: effect.boxed_local() }
        })
        .await;
    }
}

/// Waits until an author's post is in the index, which a cascade reads.
async fn is_listed(author: &Person, post: Uuid) {
    let list = format!("/posts?author={}", author.id);
    eventually("the post is listed", async || {
        let listed = author.system.get(&list).await.body["items"].to_string();
        listed.contains(&post.to_string()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn comments_are_renamed_and_deleted_once_with_their_author_and_their_post() {
    let system = System::connect().await;
    assert_copies(&system, "comments-on-user", "comments").await;
    let reader = system.registered("Bada").await;
    for (function, event_type, expected) in [
        (
            "comments-on-user",
            "user.updated",
            json!({"version": 1, "author": {"name": "Areum"}, "author_sequence": 9}),
        ),
        ("comments-on-user", "user.deleted", changed(2, "comment.deleted")),
        ("comments-on-post", "post.deleted", changed(2, "comment.deleted")),
    ] {
        assert_consumer(&system, function, async || {
            let person = system.registered("Ara").await;
            let post = reader.writes_commentable_post("Spring").await;
            let comment = person.comments_on(post, "So do I.").await;
            eventually("the comment is listed", async || {
                let listed = system.get(&format!("/posts/{post}/comments")).await.body["items"].to_string();
                listed.contains(&comment.to_string()).then_some(())
            })
            .await;
            let event = if event_type == "post.deleted" {
                event(event_type, post, 9, &json!({"id": post, "author_id": reader.id}))
            } else {
                event(event_type, person.id, 9, &json!({"id": person.id, "name": "Areum"}))
            };
            let (system, expected) = (system.clone(), expected.clone());
            let effect = async move {
                let key = (format!("post#{post}"), format!("comment#{comment}"));
                assert_stored(&system, "comments", (&key.0, &key.1), &expected).await;
            };
            Case { input: batch(function, &[event]), expected: (), effect: effect.boxed_local() }
        })
        .await;
    }
    assert_consumer(&system, "comments-on-post", async || {
        let (post, author) = (Uuid::now_v7(), Uuid::now_v7());
        let created =
            event("post.created", post, 1, &json!({"id": post, "author_id": author, "title": "Made up"}));
        let system = system.clone();
        let effect = async move {
            let copy = json!({"author_id": author, "deleted": false, "sequence": 1});
            assert_stored(&system, "comments", (&format!("post#{post}"), "post"), &copy).await;
        };
        Case { input: batch("comments-on-post", &[created]), expected: (), effect: effect.boxed_local() }
    })
    .await;
}

/// Asserts that a person has one notification of a kind, and one item of it with one event.
async fn has_one(person: &Person, kind: &str) {
    let found = person.notifications(kind).await;
    let [notification] = found.as_slice() else { panic!("expected one: {found:?}") };
    let sk = format!("notification#{}", notification["id"].as_str().unwrap());
    let expected = json!({"outbox": {"type": "notification.created", "sequence": 1}});
    assert_stored(&person.system, "notifications", (&format!("user#{}", person.id), &sk), &expected).await;
}

#[tokio::test]
async fn someone_is_notified_once_of_each_event() {
    let system = System::connect().await;
    assert_consumer(&system, "notifications-on-user", async || {
        let person = system.sign_up().await;
        let created = event("user.created", person.id, 1, &json!({"id": person.id, "name": "Ara"}));
        let effect = async move { has_one(&person, "welcome").await };
        Case { input: batch("notifications-on-user", &[created]), expected: (), effect: effect.boxed_local() }
    })
    .await;
    assert_consumer(&system, "notifications-on-comment", async || {
        let (person, comment) = (system.sign_up().await, Uuid::now_v7());
        let data = json!({"id": comment, "post_id": Uuid::now_v7(), "post_author_id": person.id,
                          "author_id": Uuid::now_v7(), "author_name": "Bada", "excerpt": "So do I."});
        let created = event("comment.created", comment, 1, &data);
        let effect = async move { has_one(&person, "comment").await };
        Case {
            input: batch("notifications-on-comment", &[created]),
            expected: (),
            effect: effect.boxed_local(),
        }
    })
    .await;
    assert_consumer(&system, "notifications-on-order", async || {
        let (person, order) = (system.sign_up().await, Uuid::now_v7());
        let data = json!({"id": order, "buyer_id": person.id, "total": usd(900)});
        let confirmed = event("order.confirmed", order, 2, &data);
        let effect = async move { has_one(&person, "order_confirmed").await };
        Case {
            input: batch("notifications-on-order", &[confirmed]),
            expected: (),
            effect: effect.boxed_local(),
        }
    })
    .await;
}

#[tokio::test]
async fn a_deleted_users_notifications_and_settings_are_deleted() {
    let system = System::connect().await;
    assert_consumer(&system, "notifications-on-user", async || {
        let person = system.registered("Ara").await;
        person.wait_for_welcome().await;
        let preferences = person.request(Method::PUT, "/notifications/preferences").if_match(0);
        preferences.json(&json!({"email": false})).send().await.is(200, &json!({"email": false}));
        let deleted = event("user.deleted", person.id, 9, &json!({"id": person.id}));
        let effect = async move {
            assert_eq!(person.notifications("welcome").await, Vec::<Value>::new());
            let settings = format!("user#{}", person.id);
            assert_eq!(person.system.item("notifications", &settings, "settings").await, None);
        };
        Case { input: batch("notifications-on-user", &[deleted]), expected: (), effect: effect.boxed_local() }
    })
    .await;
}

#[tokio::test]
async fn a_notification_is_mailed_once_unless_the_answer_of_ses_itself_is_lost() {
    let system = System::connect().await;
    let mails = async |person: &Person| {
        system.mails(&person.email, "Welcome to Madang, \u{2068}Ara\u{2069}").await.len()
    };
    let prepare = async || {
        let person = system.registered("Ara").await;
        person.wait_for_welcome().await;
        let pk = format!("user#{}", person.id);
        let welcome = person.notifications("welcome").await.remove(0);
        let sk = format!("notification#{}", welcome["id"].as_str().unwrap());
        let created = system.item("notifications", &pk, &sk).await.unwrap()["outbox"].clone();
        // The real sender is done with the welcome before its owner asks for mail, so that only the copy mails it.
        system.wait_until_consumed("notifications-email", &created, 1).await;
        let preferences = person.request(Method::PUT, "/notifications/preferences").if_match(0);
        preferences.json(&json!({"email": true})).send().await.is(200, &json!({"email": true}));
        let system = system.clone();
        let effect = async move {
            assert_stored(&system, "notifications", (&pk, &sk), &json!({"emailed_at": "<time>"})).await;
        };
        let created = batch("notifications-email", &[created]);
        Case { input: created, expected: person, effect: effect.boxed_local() }
    };
    let check =
        async |copy: &Copy, case: Case<'_, Person>, outcome: Result<Invoked, Invoked>, lost: &Lost| {
            let Case { input, expected: person, effect } = case;
            check_consumer(copy, Case { input, expected: (), effect }, outcome, lost).await;
            let most = if lost.operation.as_deref() == Some("SendEmail") { 1 + lost.times } else { 1 };
            let sent = mails(&person).await;
            assert!((1..=most).contains(&sent), "{sent} mails: {lost:?}");
        };
    for_every_write(&system, "notifications-email", prepare, check).await;
}

#[tokio::test]
async fn an_instance_is_registered_and_deregistered_once_and_the_answer_says_so() {
    let system = System::connect().await;
    let cloud_map = aws_sdk_servicediscovery::Client::new(&system.aws);
    let namespaces = cloud_map.list_namespaces().send().await.expect("ListNamespaces").namespaces.unwrap();
    let namespace =
        namespaces.into_iter().find(|namespace| namespace.name.as_deref() == Some("madang")).unwrap();
    let name = format!("test-{}", Uuid::now_v7().simple());
    let created = cloud_map.create_service().name(&name).namespace_id(namespace.id.unwrap());
    let service = created.send().await.expect("CreateService").service.unwrap().id.unwrap();
    let test = async {
        let attributes = HashMap::from([("url".to_owned(), "http://127.0.0.1:9000".to_owned())]);
        let of_instance = |function: &str, id: &str| {
            let path = format!("/registry/{name}/instances/{id}");
            http_input(function, Uuid::nil(), &path, &json!({"service": name, "id": id}))
        };
        let instances = async || {
            let listed = cloud_map.list_instances().service_id(&service).send().await.expect("ListInstances");
            listed.instances.unwrap_or_default().into_iter().filter_map(|found| found.id).collect::<Vec<_>>()
        };
        assert_endpoint(&system, "registry-register", async || {
            let id = format!("laptop-{}", Uuid::now_v7().simple());
            let mut input = of_instance("registry-register", &id);
            input["body"] = json!(json!(attributes).to_string());
            let registered = || Expected::Reply(200, json!({"id": id, "url": "http://127.0.0.1:9000"}));
            let expected = (registered(), registered());
            let listed = &instances;
            let effect =
                async move { assert_eq!(listed().await.iter().filter(|found| **found == id).count(), 1) };
            Case { input, expected, effect: effect.boxed_local() }
        })
        .await;
        assert_endpoint(&system, "registry-deregister", async || {
            let id = format!("laptop-{}", Uuid::now_v7().simple());
            let register = cloud_map.register_instance().service_id(&service).instance_id(&id);
            register.set_attributes(Some(attributes.clone())).send().await.expect("RegisterInstance");
            let done = || Expected::Reply(204, Value::Null);
            let (input, listed) = (of_instance("registry-deregister", &id), &instances);
            let effect = async move { assert!(!listed().await.contains(&id), "{id}") };
            Case { input, expected: (done(), done()), effect: effect.boxed_local() }
        })
        .await;
    };
    let remove = async {
        let listed = cloud_map.list_instances().service_id(&service).send().await.expect("ListInstances");
        for left in listed.instances.unwrap_or_default() {
            let deregister = cloud_map.deregister_instance().service_id(&service);
            deregister.set_instance_id(left.id).send().await.expect("DeregisterInstance");
        }
        cloud_map.delete_service().id(&service).send().await.expect("DeleteService");
    };
    finally(Box::pin(test), Box::pin(remove)).await;
}

/// The bus has no idempotency: an event whose acceptance was not told is published again, and consumers tolerate it.
#[tokio::test]
async fn an_event_is_published_again_if_the_answer_of_the_bus_is_lost_and_is_reported_if_all_are() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    with_copy(&system, "posts-relay", Changes::endpoints(&proxy), async |relay| {
        for (times, failed) in [(1, vec![]), (ATTEMPTS, vec!["1"])] {
            let mut record = input("relay");
            record["Records"][0]["dynamodb"]["SequenceNumber"] = json!("1");
            record["Records"][0]["dynamodb"]["NewImage"]["outbox"]["M"]["id"]["S"] = json!(Uuid::now_v7());
            proxy.lose_answers(0, times);
            let answer = relay.invoke(&record).await.answer;
            assert_eq!(
                (reported(&answer), proxy.lost().len()),
                (failed.iter().map(ToString::to_string).collect(), times)
            );
        }
    })
    .await;
}
