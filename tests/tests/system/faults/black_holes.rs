//! Black holes: a service of AWS accepts every call, and never answers.
//!
//! Whoever waits for it is told so before Lambda ends the function: an invocation that succeeds at all was in time, because
//! copies have the time-outs of the real functions.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Person, System, assert_json, eventually,
    faults::{Call, Changes, Fate, Proxy, Refusal, batch, event, http_input, input, reported, with_copy},
    shop::{CARD, new_sku, order, order_id},
};
use uuid::Uuid;

use super::assert_told;

/// Black holes at the same time: most of the time is waiting.
const AT_ONCE: usize = 4;

/// The changes that direct one AWS client of a copy to a black hole.
async fn black_hole(system: &System, service: &str) -> (Proxy, Changes) {
    let proxy = Proxy::start(system).await;
    proxy.swallow(|_| true);
    let changes = Changes::endpoint(service, &proxy);
    (proxy, changes)
}

/// The client, the function and the request of each case, with the endpoint's name.
fn requests(person: &Person, post: Uuid) -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let id = person.id;
    let of_post = |function| http_input(function, id, &format!("/posts/{post}"), &json!({"id": post}));
    let author = http_input("posts-author", id, &format!("/posts/{post}/author"), &json!({"id": post}));
    let comment = http_input("comments-create", id, &format!("/posts/{post}/comments"), &json!({"id": post}));
    let instance = |function| {
        let path = "/registry/users/instances/laptop";
        http_input(function, id, path, &json!({"service": "users", "id": "laptop"}))
    };
    let resolve = http_input("registry-resolve", id, "/registry/users", &json!({"service": "users"}));
    vec![
        ("DYNAMODB", "posts-get", "GET /posts/{id}", of_post("posts-get")),
        ("DYNAMODB", "posts-update", "PATCH /posts/{id}", of_post("posts-update")),
        ("DYNAMODB", "comments-create", "POST /posts/{id}/comments", comment),
        (
            "DYNAMODB",
            "users-update",
            "PATCH /users/me",
            http_input("users-update", id, "/users/me", &json!({})),
        ),
        ("DYNAMODB", "orders-place", "POST /orders", http_input("orders-place", id, "/orders", &json!({}))),
        (
            "DYNAMODB",
            "notifications-list",
            "GET /notifications",
            http_input("notifications-list", id, "/notifications", &json!({})),
        ),
        (
            "DYNAMODB",
            "inventory-get",
            "GET /inventory/{sku}",
            http_input("inventory-get", id, "/inventory/tea", &json!({"sku": "tea"})),
        ),
        (
            "DYNAMODB",
            "payments-get",
            "GET /orders/{id}/payment",
            http_input("payments-get", id, &format!("/orders/{id}/payment"), &json!({"id": id})),
        ),
        (
            "COGNITO_IDENTITY_PROVIDER",
            "users-register",
            "POST /users",
            http_input("users-register", id, "/users", &json!({})),
        ),
        (
            "COGNITO_IDENTITY_PROVIDER",
            "inventory-put",
            "PUT /inventory/{sku}",
            http_input("inventory-put", id, "/inventory/tea", &json!({"sku": "tea"})),
        ),
        (
            "COGNITO_IDENTITY_PROVIDER",
            "inventory-staff",
            "GET /staff/inventory",
            http_input("inventory-staff", id, "/staff/inventory", &json!({})),
        ),
        ("LAMBDA", "posts-author", "GET /posts/{id}/author", author.clone()),
        ("SERVICEDISCOVERY", "posts-author", "GET /posts/{id}/author", author),
        ("SERVICEDISCOVERY", "registry-resolve", "GET /registry/{service}", resolve),
        (
            "SERVICEDISCOVERY",
            "registry-register",
            "PUT /registry/{service}/instances/{id}",
            instance("registry-register"),
        ),
        (
            "SERVICEDISCOVERY",
            "registry-deregister",
            "DELETE /registry/{service}/instances/{id}",
            instance("registry-deregister"),
        ),
    ]
}

#[tokio::test]
async fn a_handler_whose_slow_calls_add_up_to_more_than_its_time_is_answered_before_lambda_ends_it() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let proxy = Proxy::start(&system).await;
    // Two attempts of the read take four seconds, three of the write six: each call by itself has its time.
    let reads = AtomicUsize::new(0);
    proxy.swallow(move |call| match call.operation.as_str() {
        "GetItem" => reads.fetch_add(1, Ordering::Relaxed) < 2,
        operation => operation == "PutItem",
    });
    let input = http_input("posts-create", person.id, "/posts", &json!({}));
    with_copy(&system, "posts-create", Changes::endpoint("DYNAMODB", &proxy), async |copy| {
        let invoked = copy.invoke(&input).await;
        assert_told(&invoked, "POST /posts", 503, "unavailable");
        assert!(invoked.log.contains("no result within"), "{}", invoked.log);
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_whose_service_never_answers_says_so_in_time_and_logs_and_counts_it() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let post = person.writes_post("Spring").await;
    let told = stream::iter(requests(&person, post)).map(async |(service, function, endpoint, request)| {
        let (proxy, changes) = black_hole(&system, service).await;
        with_copy(&system, function, changes, async |copy| {
            assert_told(&copy.invoke(&request).await, endpoint, 503, "unavailable");
            assert!(!proxy.calls().is_empty(), "{function} did not call {service}");
        })
        .await;
    });
    told.buffer_unordered(AT_ONCE).collect::<()>().await;
}

#[tokio::test]
async fn an_order_is_accepted_in_time_although_step_functions_never_answers() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let (_proxy, changes) = black_hole(&system, "SFN").await;
    let (key, sku) = (new_sku("key"), new_sku("unknown"));
    let mut request = http_input("orders-place", buyer.id, "/orders", &json!({}));
    request["headers"]["idempotency-key"] = json!(format!("\"{key}\""));
    request["body"] = json!(order(&sku, 1, CARD).to_string());
    with_copy(&system, "orders-place", changes, async |copy| {
        let invoked = copy.invoke(&request).await;
        assert_eq!(invoked.http().status, 202, "{invoked:?}");
        assert_eq!(invoked.http().id(), order_id(&buyer, &key));
        assert!(invoked.log.contains("the reconciler will start it"), "{}", invoked.log);
    })
    .await;
    system.wait_until_started(&order_id(&buyer, &key).to_string()).await;
}

#[tokio::test]
async fn of_ten_messages_the_one_whose_call_is_never_answered_fails_alone() {
    let system = System::connect().await;
    for (service, function, table) in [
        ("DYNAMODB", "posts-on-user", Some("posts")),
        ("DYNAMODB", "comments-on-user", Some("comments")),
        ("DYNAMODB", "orders-on-user", Some("orders")),
        ("DYNAMODB", "notifications-on-user", Some("notifications")),
        ("COGNITO_IDENTITY_PROVIDER", "users-on-user", None),
    ] {
        let people: Vec<Uuid> = (0..10).map(|_| Uuid::now_v7()).collect();
        // Only users-on-user does nothing about a new user. A login that does not exist counts as removed.
        let kind = if table.is_some() { "user.created" } else { "user.deleted" };
        let events: Vec<Value> =
            people.iter().map(|id| event(kind, *id, 1, &json!({"id": id, "name": "Ara"}))).collect();
        let unlucky = people[4].to_string();
        let proxy = Proxy::start(&system).await;
        proxy.swallow(move |call| call.input.to_string().contains(&unlucky));
        with_copy(&system, function, Changes::endpoint(service, &proxy), async |copy| {
            let answer = copy.invoke(&batch(function, &events)).await.answer;
            let expected = json!({"batchItemFailures": [{"itemIdentifier": events[4]["id"]}]});
            assert_json(&answer, &expected);
        })
        .await;
        for (position, id) in people.iter().enumerate() {
            if let Some(table) = table {
                let copy = system.item(table, &format!("user#{id}"), "user").await;
                assert_eq!(copy.is_some(), position != 4, "{function}: {position}");
            } else {
                let asked =
                    |call: &Call| call.operation == "AdminDeleteUser" && call.input["Username"] == json!(id);
                assert!(proxy.calls().iter().any(asked), "{function}: {position}");
            }
        }
    }
}

/// Someone who wants mail and has a notification that was not mailed, and its event.
async fn unmailed(system: &System) -> (Person, Value) {
    let person = system.registered("Ara").await;
    person.wait_for_welcome().await;
    let welcome = person.notifications("welcome").await.remove(0);
    let sk = format!("notification#{}", welcome["id"].as_str().unwrap());
    let stored = system.item("notifications", &format!("user#{}", person.id), &sk).await.unwrap();
    let created = stored["outbox"].clone();
    // The real sender is done with the welcome before its owner asks for mail.
    system.wait_until_consumed("notifications-email", &created, 1).await;
    let preferences = person.request(Method::PUT, "/notifications/preferences").if_match(0);
    preferences.json(&json!({"email": true})).send().await.is(200, &json!({"email": true}));
    (person, created)
}

#[tokio::test]
async fn a_mail_whose_calls_are_never_answered_fails_alone_and_is_sent_by_another_delivery() {
    let system = System::connect().await;
    // SES; users by HTTP, at a fixed address; Cloud Map, which knows that address otherwise.
    for service in ["SESV2", "USERS", "SERVICEDISCOVERY"] {
        let (first, second) = (unmailed(&system).await, unmailed(&system).await);
        let proxy = Proxy::start(&system).await;
        let changes = if service == "USERS" {
            let url = system.output("api_url").replace(system.output("endpoint_url"), &proxy.url);
            Changes::default().with("DISCOVERY", "static").with("USERS_URL", &url)
        } else {
            Changes::endpoint(service, &proxy)
        };
        let events = [first.1.clone(), second.1.clone()];
        let unlucky = match service {
            "SESV2" => first.0.email.clone(),
            _ => first.0.id.to_string(),
        };
        let both = service == "SERVICEDISCOVERY";
        proxy.swallow(move |call| both || format!("{call:?}").contains(&unlucky));
        with_copy(&system, "notifications-email", changes, async |copy| {
            let batch = batch("notifications-email", &events);
            let failed = reported(&copy.invoke(&batch).await.answer);
            let ids: Vec<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
            // The copy has not asked Cloud Map before, so that it cannot know the address of users.
            assert_eq!(failed, if both { ids.clone() } else { vec![ids[0]] }, "{service}");
            proxy.allow_all();
            eventually("another delivery sends the mail", async || {
                reported(&copy.invoke(&batch).await.answer).is_empty().then_some(())
            })
            .await;
        })
        .await;
        for (person, _) in [&first, &second] {
            let subject = "Welcome to Madang, \u{2068}Ara\u{2069}";
            assert_eq!(system.mails(&person.email, subject).await.len(), 1, "{service}");
        }
    }
}

#[tokio::test]
async fn a_consumer_whose_queue_never_answers_reports_its_message_in_time() {
    let system = System::connect().await;
    let (proxy, changes) = black_hole(&system, "SQS").await;
    with_copy(&system, "posts-on-user", changes, async |copy| {
        // The second pass over the posts of a deleted user is a message of its own.
        let id = Uuid::now_v7();
        let deleted = event("user.deleted", id, 2, &json!({"id": id}));
        let answer = copy.invoke(&batch("posts-on-user", std::slice::from_ref(&deleted))).await.answer;
        assert_eq!(reported(&answer), [deleted["id"].as_str().unwrap()]);
        assert!(proxy.operations().contains(&"SendMessage".to_owned()), "{:?}", proxy.operations());

        // Neither can a message that is no event be moved to the dead-letter queue.
        let mut malformed = batch("posts-on-user", &[deleted]);
        malformed["Records"][0]["body"] = json!("malformed");
        assert_eq!(reported(&copy.invoke(&malformed).await.answer).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_consumer_whose_table_and_queue_never_answer_reports_its_message_in_time() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    proxy.swallow(|_| true);
    with_copy(&system, "posts-on-user", Changes::endpoints(&proxy), async |copy| {
        let id = Uuid::now_v7();
        let created = event("user.created", id, 1, &json!({"id": id, "name": "Ara"}));
        let answer = copy.invoke(&batch("posts-on-user", std::slice::from_ref(&created))).await.answer;
        assert_eq!(reported(&answer), [created["id"].as_str().unwrap()]);
        assert!(!proxy.calls().is_empty());
    })
    .await;
}

/// A batch of new posts with sequence numbers from 1.
fn records(count: usize) -> Value {
    let template = input("relay")["Records"][0].clone();
    let records = (1..=count).map(|number| {
        let mut record = template.clone();
        record["dynamodb"]["SequenceNumber"] = json!(number.to_string());
        record["dynamodb"]["NewImage"]["outbox"]["M"]["id"]["S"] = json!(Uuid::now_v7());
        record
    });
    json!({"Records": records.collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_relay_whose_bus_never_answers_reports_the_first_record_in_time() {
    let system = System::connect().await;
    let (proxy, changes) = black_hole(&system, "EVENTBRIDGE").await;
    with_copy(&system, "posts-relay", changes, async |relay| {
        let failed = reported(&relay.invoke(&records(25)).await.answer);
        // Lambda delivers the batch again from the lowest number on.
        let lowest = failed.iter().filter_map(|number| number.parse::<u32>().ok()).min();
        assert_eq!(lowest, Some(1), "{failed:?}");
        let entries = |call: &Call| call.input["Entries"].as_array().unwrap().len();
        assert!(proxy.calls().iter().all(|call| entries(call) == 10), "it went on to another chunk");
    })
    .await;
}

/// The ids of the events that a relay has put on the bus.
fn published(proxy: &Proxy) -> Vec<Value> {
    let calls = proxy.calls().into_iter().filter(|call| call.operation == "PutEvents");
    let entries = calls.flat_map(|call| call.input["Entries"].as_array().unwrap().clone());
    let detail = |entry: Value| serde_json::from_str::<Value>(entry["Detail"].as_str().unwrap()).unwrap();
    entries.map(|entry| detail(entry)["id"].clone()).collect()
}

#[tokio::test]
async fn a_relay_whose_dead_letter_queue_never_answers_loses_no_record() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    proxy.decide(|call| match call.operation.as_str() {
        "SendMessage" => Fate::Swallow,
        _ => Fate::Refuse(Refusal::entries(call, |_| false)),
    });
    with_copy(&system, "posts-relay", Changes::endpoints(&proxy), async |relay| {
        let mut batch = records(3);
        let outbox = |record: usize| format!("/Records/{record}/dynamodb/NewImage/outbox/M");
        batch.pointer_mut(&outbox(1)).unwrap().as_object_mut().unwrap().remove("type");
        let first = batch.pointer(&outbox(0)).unwrap()["id"]["S"].clone();
        let failed = reported(&relay.invoke(&batch).await.answer);
        // The batch is delivered again from the lowest number on, so that what is before it must be on the bus.
        match failed.iter().filter_map(|number| number.parse::<u32>().ok()).min() {
            Some(1) => {}
            Some(2) => assert!(published(&proxy).contains(&first), "the first record is lost"),
            other => panic!("the second record is lost: {other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_step_whose_service_never_answers_fails_as_unavailable_in_time() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let placed = buyer.orders(&new_sku("unknown"), 1, CARD).await;
    buyer.wait_until_decided(placed).await;
    let steps = [
        "orders-validate-user",
        "orders-confirm",
        "orders-abort",
        "orders-reject",
        "orders-park",
        "inventory-reserve",
        "inventory-release",
        "inventory-commit",
        "payments-authorize",
        "payments-capture",
        "payments-cancel",
    ];
    let failed = stream::iter(steps).map(async |function| {
        let (proxy, changes) = black_hole(&system, "DYNAMODB").await;
        let mut step = input(function);
        step["order_id"] = json!(placed);
        with_copy(&system, function, changes, async |copy| {
            let failed = copy.fails(&step).await;
            assert_eq!(failed.answer["errorType"], "Unavailable", "{function}: {failed:?}");
            assert!(failed.log.contains(r#""message":"failed""#), "{function}: {}", failed.log);
            assert!(!proxy.calls().is_empty(), "{function}");
        })
        .await;
    });
    failed.buffer_unordered(AT_ONCE).collect::<()>().await;
}
