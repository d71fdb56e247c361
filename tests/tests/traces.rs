//! One trace follows what somebody does through every function that it comes to.
//!
//! A trace's story is all of its hops: a line for each request or event that reached a function, below the hop that it
//! came from. Calls of AWS APIs lie between them and are checked one by one ([`Trace::faults`]).

use reqwest::Method;
use serde_json::json;
use system_tests::{
    Person, Request, System, eventually,
    shop::{CARD, DECLINED, new_sku, order, usd},
    traces::{Origin, Trace},
};

/// A person's first trace: registering.
const REGISTERED: &str = "\
users-register: POST /users
  comments-on-user: consume user.created
  notifications-on-user: consume user.created
    notifications-email: consume notification.created
    notifications-relay: publish notification.created
  orders-on-user: consume user.created
  posts-on-user: consume user.created
  users-relay: publish user.created
";

const POSTED: &str = "\
posts-create: POST /posts
  comments-on-post: consume post.created
  posts-relay: publish post.created
";

/// The post's author wants mail.
const COMMENTED: &str = "\
comments-create: POST /posts/{id}/comments
  comments-relay: publish comment.created
  notifications-on-comment: consume comment.created
    notifications-email: consume notification.created
      users-lookup: GET /internal/users/{id}
    notifications-relay: publish notification.created
";

const CONFIRMED: &str = "\
orders-place: POST /orders
  inventory-commit: inventory-commit
    inventory-relay: publish inventory.committed
  inventory-reserve: inventory-reserve
    inventory-relay: publish inventory.reserved
  notifications-on-order: consume order.placed
    notifications-email: consume notification.created
    notifications-relay: publish notification.created
  orders-confirm: orders-confirm
    notifications-on-order: consume order.confirmed
      notifications-email: consume notification.created
      notifications-relay: publish notification.created
    orders-relay: publish order.confirmed
  orders-relay: publish order.placed
  orders-validate-user: orders-validate-user
    users-lookup: GET /internal/users/{id}
  payments-authorize: payments-authorize
    payments-relay: publish payment.authorized
  payments-capture: payments-capture
    payments-relay: publish payment.captured
";

const REJECTED: &str = "\
orders-place: POST /orders
  inventory-release: inventory-release
    inventory-relay: publish inventory.released
  inventory-reserve: inventory-reserve
    inventory-relay: publish inventory.reserved
  notifications-on-order: consume order.placed
    notifications-email: consume notification.created
    notifications-relay: publish notification.created
  orders-abort: orders-abort
  orders-reject: orders-reject
    notifications-on-order: consume order.rejected
      notifications-email: consume notification.created
      notifications-relay: publish notification.created
    orders-relay: publish order.rejected
  orders-relay: publish order.placed
  orders-validate-user: orders-validate-user
    users-lookup: GET /internal/users/{id}
  payments-authorize: payments-authorize failed: Payment.Declined
  payments-cancel: payments-cancel
";

/// A user with one post that has a comment. Cascades have a second pass, which goes on from the first.
const DELETED: &str = "\
users-delete: DELETE /users/me
  comments-on-user: consume user.deleted
    comments-on-user: consume user.deleted
  notifications-on-user: consume user.deleted
    notifications-on-user: consume user.deleted
  orders-on-user: consume user.deleted
  posts-on-user: consume user.deleted
    comments-on-post: consume post.deleted
      comments-on-post: consume post.deleted
      comments-relay: publish comment.deleted
    posts-on-user: consume user.deleted
    posts-relay: publish post.deleted
  users-on-user: consume user.deleted
  users-relay: publish user.deleted
";

/// Makes a request and awaits that what has been received of its trace tells this story; gives the trace.
async fn tells(system: &System, request: Request, status: u16, story: &str) -> (Origin, Trace) {
    let origin = Origin::default();
    let answer = request.traced(&origin).send().await;
    assert_eq!(answer.status, status, "{answer:?}");
    let trace = told(system, &origin, story).await;
    (origin, trace)
}

async fn told(system: &System, origin: &Origin, story: &str) -> Trace {
    let mut told = String::new();
    // Not `eventually`, for the story as it was when patience ran out.
    let deadline = tokio::time::Instant::now() + 2 * system_tests::PATIENCE;
    while tokio::time::Instant::now() < deadline {
        if let Some(trace) = system.trace(&origin.trace_id).await {
            told = trace.story();
            if told == story {
                assert_eq!(trace.faults(origin), [] as [&str; 0]);
                return trace;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the story is\n{told}\nand not\n{story}");
}

/// Registers somebody, and awaits that every service knows them: before that it would ask.
async fn registered(system: &System) -> Person {
    let person = system.sign_up().await;
    let register = person.request(Method::POST, "/users").json(&json!({"name": "Bada"}));
    tells(system, register, 201, REGISTERED).await;
    person
}

async fn shop(system: &System, on_hand: u32) -> (Person, String) {
    let (admin, buyer, sku) = (system.admin().await, registered(system).await, new_sku("tea"));
    admin.stocks(&sku, &usd(1250), on_hand).await;
    (buyer, sku)
}

fn place(buyer: &Person, sku: &str, payment_method: &str) -> Request {
    buyer.request(Method::POST, "/orders").key(&new_sku("key")).json(&order(sku, 1, payment_method))
}

#[tokio::test]
async fn one_trace_leads_from_a_request_to_all_that_follows_from_it() {
    let system = System::connect().await;
    let (ara, bada) = (registered(&system).await, registered(&system).await);
    let preferences = ara.request(Method::PUT, "/notifications/preferences").header("if-match", "\"0\"");
    let mail = json!({"email": true});
    let answer = preferences.json(&mail).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let post = ara.request(Method::POST, "/posts").json(&json!({"title": "Spring", "body": "It rains."}));
    let (_, posted) = tells(&system, post, 201, POSTED).await;
    let post = posted.hops().find_map(|hop| hop.attributes.get("post_id")?.as_str()).unwrap().to_owned();
    assert_eq!(system.traces_of(&post).await, [posted.trace_id.as_str()]);

    let comment =
        bada.request(Method::POST, &format!("/posts/{post}/comments")).json(&json!({"body": "So it does."}));
    let (_, commented) = tells(&system, comment, 201, COMMENTED).await;
    assert!(commented.spans.iter().any(|span| span.name == "SESv2 SendEmail"), "{commented:?}");

    tells(&system, ara.request(Method::DELETE, "/users/me"), 202, DELETED).await;
}

#[tokio::test]
async fn one_trace_leads_through_every_step_of_an_order() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1).await;
    let (_, trace) = tells(&system, place(&buyer, &sku, CARD), 202, CONFIRMED).await;
    // The order's id finds it, in whichever function it is asked for.
    for hop in trace.hops().filter(|hop| hop.name == hop.function) {
        let order = hop.attributes["order_id"].as_str().unwrap();
        assert!(system.traces_of(order).await.contains(&trace.trace_id), "{hop:?}");
    }
}

#[tokio::test]
async fn a_declined_payment_is_an_error_of_the_step_that_was_declined_and_of_no_other() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1).await;
    tells(&system, place(&buyer, &sku, DECLINED), 202, REJECTED).await;
}

#[tokio::test]
async fn a_remote_procedure_call_is_part_of_the_callers_trace() {
    let system = System::connect().await;
    let author = system.registered("Ara").await;
    let post = author.writes_post("Spring").await;
    let request = system.request(Method::GET, &format!("/posts/{post}/author"));
    let story = "posts-author: GET /posts/{id}/author\n  users-lookup: invoke\n";
    let (_, trace) = tells(&system, request, 200, story).await;
    let names: Vec<&str> = trace.spans.iter().map(|span| span.name.as_str()).collect();
    for name in ["users by RPC", "Lambda Invoke"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[tokio::test]
async fn a_call_of_aws_says_which_how_often_and_with_what_result() {
    let system = System::connect().await;
    let (_, trace) = tells(
        &system,
        system.sign_up().await.request(Method::POST, "/users").json(&json!({"name": "Ara"})),
        201,
        REGISTERED,
    )
    .await;
    let put =
        trace.spans.iter().find(|span| span.name == "DynamoDB PutItem" && span.function == "users-register");
    let put = put.unwrap();
    for (name, value) in [
        ("rpc.system", json!("aws-api")),
        ("rpc.service", json!("DynamoDB")),
        ("rpc.method", json!("PutItem")),
        ("aws.retries", json!(0)),
        ("http.response.status_code", json!(200)),
    ] {
        assert_eq!(put.attributes[name], value, "{put:?}");
    }
}

#[tokio::test]
async fn a_refused_request_is_an_error_and_is_found_by_its_request_id() {
    let system = System::connect().await;
    let stranger = system.sign_up().await;
    let origin = Origin::default();
    let request =
        stranger.request(Method::POST, "/posts").json(&json!({"title": "Spring", "body": "It rains."}));
    let answer = request.traced(&origin).send().await;
    answer.is_problem(403, "profile-required");
    let story = "posts-create: POST /posts failed: profile-required\n  users-lookup: invoke\n";
    told(&system, &origin, story).await;
    let request_id = answer.body["instance"].as_str().unwrap().trim_start_matches("urn:uuid:");
    assert_eq!(system.traces_of(request_id).await, [origin.trace_id.as_str()]);
}

#[tokio::test]
async fn nothing_is_exported_of_a_trace_that_is_not_sampled_wherever_it_leads() {
    let system = System::connect().await;
    let (sampled, unsampled) = (system.sign_up().await, system.sign_up().await);
    let body = json!({"name": "Ara"});
    let (quiet, loud) = (Origin::default(), Origin::default());
    let request = |person: &Person| person.request(Method::POST, "/users").json(&body);
    let answer = request(&unsampled).header("x-amzn-trace-id", &quiet.header(false)).send().await;
    assert_eq!(answer.status, 201, "{answer:?}");
    unsampled.is_welcomed().await;
    // What came later has arrived, so what came before would have.
    assert_eq!(request(&sampled).traced(&loud).send().await.status, 201);
    told(&system, &loud, REGISTERED).await;
    assert!(system.trace(&quiet.trace_id).await.is_none());
}

#[tokio::test]
async fn work_on_a_batch_is_linked_to_the_invocation_that_did_it() {
    let system = System::connect().await;
    let person = system.sign_up().await;
    let register = person.request(Method::POST, "/users").json(&json!({"name": "Ara"}));
    let (_, trace) = tells(&system, register, 201, REGISTERED).await;
    for hop in trace.hops().skip(1) {
        let mut invocation = None;
        for link in &hop.links {
            let linked =
                eventually("the invocation's trace arrives", async || system.trace(&link.trace_id).await)
                    .await;
            let span = linked.spans.into_iter().find(|span| span.span_id == link.span_id);
            invocation = invocation.or(span);
        }
        let invocation = invocation.unwrap_or_else(|| panic!("{hop:?} has no link to its invocation"));
        assert_eq!(invocation.function, hop.function);
        assert!(["queue", "stream"].contains(&invocation.name.as_str()), "{invocation:?}");
    }
}

#[tokio::test]
async fn an_event_without_a_place_in_a_trace_is_in_none_but_its_consumers() {
    let system = System::connect().await;
    let (person, origin) = (system.registered("Ara").await, Origin::default());
    person.is_welcomed().await;
    let event = |id: uuid::Uuid, sequence: u32, traceparent: Option<String>| {
        let mut event = json!({
            "specversion": "1.0", "id": id, "source": "madang.users", "type": "user.updated",
            "subject": person.id, "time": "2026-05-04T09:30:00.000000Z", "sequence": sequence, "schemaversion": 1,
            "data": {"id": person.id, "name": "Ara"},
        });
        if let Some(traceparent) = traceparent {
            event["traceparent"] = json!(traceparent);
        }
        event
    };
    let traceparent = format!("00-{}-{:016x}-01", origin.trace_id, fastrand::u64(1..));
    let (with, without) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
    system.publish(&event(with, 2, Some(traceparent))).await;
    system.publish(&event(without, 3, None)).await;
    let consumers = 4;
    eventually("the event's spans arrive", async || {
        let trace = system.trace(&origin.trace_id).await?;
        (trace.hops().count() == consumers).then_some(())
    })
    .await;
    assert_eq!(system.traces_of(&with.to_string()).await, [origin.trace_id.as_str()]);
    let of_their_own = eventually("the other event's spans arrive", async || {
        let traces = system.traces_of(&without.to_string()).await;
        (traces.len() == consumers).then_some(traces)
    })
    .await;
    assert!(!of_their_own.contains(&origin.trace_id), "{of_their_own:?}");
}

/// The test of the test: a story is another one when any hop has lost its context, and a hop with a wrong one is named.
#[tokio::test]
async fn a_hop_that_loses_the_context_does_not_go_unnoticed() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1).await;
    let (origin, trace) = tells(&system, place(&buyer, &sku, DECLINED), 202, REJECTED).await;
    assert_eq!(trace.hops().count(), REJECTED.lines().count());
    for hop in trace.hops() {
        let story = trace.without(hop).story();
        assert!(story.len() < REJECTED.len(), "without {}:\n{story}", hop.title());

        let mut astray = trace.clone();
        let span = astray.spans.iter_mut().find(|span| span.span_id == hop.span_id).unwrap();
        span.parent_id = Some("0123456789abcdef".to_owned());
        let fault = format!("the parent of {} is not known", hop.title());
        assert_eq!(astray.faults(&origin), [fault]);
    }
}
