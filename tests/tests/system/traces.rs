//! One trace follows what somebody does through every function that it comes to.
//!
//! A trace's story is all of its hops: a line for each request or event that reached a function, below the hop that it
//! came from. Calls of AWS APIs lie between them and are checked one by one ([`system_tests::traces::Trace::faults`]).

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Answer, Person, System, eventually,
    faults::{Changes, Proxy, Refusal, http_input, input, with_copy},
    shop::{CARD, DECLINED, order},
    stories::{
        COMMENTED, CONFIRMED, DELETED, POSTED, REGISTERED, REJECTED, place, registered, shop, tells, told,
    },
    traces::{Origin, Span},
};
use uuid::Uuid;

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
    let (_, trace) = tells(&system, place(&buyer, &sku, DECLINED), 202, REJECTED).await;
    let declined = trace.hops().find(|hop| hop.function == "payments-authorize").unwrap();
    // For X-Ray a status of 4xx is an error, and none a fault.
    assert_eq!(declined.attributes["http.response.status_code"], 409, "{declined:?}");
    let indexed = declined.attributes["aws.xray.annotations"].as_array().unwrap();
    assert!(["order_id", "error.type"].iter().all(|name| indexed.contains(&json!(name))), "{declined:?}");
}

#[tokio::test]
async fn a_remote_procedure_call_is_part_of_the_callers_trace() {
    let system = System::connect().await;
    let author = system.registered("Ara").await;
    let post = author.writes_post("Spring").await;
    let request = system.request(Method::GET, &format!("/posts/{post}/author"));
    let story = "posts-author: GET /posts/{id}/author\n  users-lookup: RPC users-lookup\n";
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
    let story = "posts-create: POST /posts failed: profile-required\n  users-lookup: RPC users-lookup\n";
    told(&system, &origin, story).await;
    let request_id = answer.body["instance"].as_str().unwrap().trim_start_matches("urn:uuid:");
    assert_eq!(system.traces_of(request_id).await, [origin.trace_id.as_str()]);
}

/// The span that an answer names, once it has been received.
async fn named_by(system: &System, answer: &Answer) -> Span {
    let (place, sampled) = answer.place();
    assert!(sampled, "{answer:?}");
    eventually("the span that the answer names is in the trace that it names", async || {
        let trace = system.trace(&place.trace_id).await?;
        trace.spans.into_iter().find(|span| Origin::of(span) == place)
    })
    .await
}

#[tokio::test]
async fn every_answer_names_its_trace_and_that_trace_holds_the_request() {
    let system = System::connect().await;
    let (ara, stranger) = (system.registered("Ara").await, system.sign_up().await);
    let post = format!("/posts/{}", ara.writes_post("Spring").await);
    let description = system.get("/openapi.json").await;
    let known = description.header("etag").unwrap();
    let (draft, edit) = (json!({"title": "Spring", "body": "It rains."}), json!({"title": "Summer"}));
    let of_anybody = |method, path: &str| system.request(method, path);
    let write = || ara.request(Method::POST, "/posts");
    let change = || ara.request(Method::PATCH, &post);
    for (status, name, request) in [
        (200, "GET /posts/{id}", of_anybody(Method::GET, &post)),
        (201, "POST /posts", write().json(&draft)),
        (304, "GET /openapi.json", of_anybody(Method::GET, "/openapi.json").header("if-none-match", known)),
        (400, "POST /posts", write().raw("application/json", "{")),
        (401, "POST /payments/webhook", of_anybody(Method::POST, "/payments/webhook").json(&json!({}))),
        (403, "POST /posts", stranger.request(Method::POST, "/posts").json(&draft)),
        (404, "GET /posts/{id}", of_anybody(Method::GET, "/posts/not-a-uuid")),
        (412, "PATCH /posts/{id}", change().if_match(9).json(&edit)),
        (413, "POST /posts", write().raw("application/json", "1".repeat(1024 * 1024))),
        (415, "POST /posts", write().raw("text/plain", "{}")),
        (422, "POST /posts", write().json(&edit)),
        (428, "PATCH /posts/{id}", change().json(&edit)),
        (204, "DELETE /posts/{id}", ara.request(Method::DELETE, &post)),
    ] {
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{answer:?}");
        let span = named_by(&system, &answer).await;
        let found = (span.name.as_str(), &span.attributes["http.response.status_code"]);
        assert_eq!(found, (name, &json!(status)), "{span:?}");
        // As it is in the answer, it finds the trace.
        assert_eq!(system.traces_of(answer.header("traceresponse").unwrap()).await, [span.trace_id]);
    }
}

#[tokio::test]
async fn an_answer_that_reports_a_failure_names_its_trace_too() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    let unexpected =
        json!({"__type": "com.amazonaws.dynamodb.v20120810#ValidationException", "message": "no"});
    with_copy(&system, "posts-get", Changes::endpoint("DYNAMODB", &proxy), async |copy| {
        let id = Uuid::now_v7();
        let mut input = http_input("posts-get", id, &format!("/posts/{id}"), &json!({"id": id}));
        // Nobody else decides that a copy's trace is sampled.
        input["headers"]["x-amzn-trace-id"] = json!(Origin::default().header(true));
        for (status, refusal) in
            [(503, Refusal::throttled()), (500, Refusal { status: 400, body: unexpected.clone() })]
        {
            proxy.refuse(move |_| Some(refusal.clone()));
            let answer = copy.invoke(&input).await.http();
            assert_eq!(answer.status, status, "{answer:?}");
            let span = named_by(&system, &answer).await;
            assert_eq!(span.attributes["http.response.status_code"], status, "{span:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_names_the_trace_that_the_request_came_with_sampled_or_not() {
    let system = System::connect().await;
    for sampled in [true, false] {
        let origin = Origin::default();
        let request = system.request(Method::GET, "/posts?limit=1");
        let answer = request.header("x-amzn-trace-id", &origin.header(sampled)).send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let (place, named_sampled) = answer.place();
        assert_eq!((&place.trace_id, named_sampled), (&origin.trace_id, sampled), "{answer:?}");
        assert_ne!(place, origin, "its own span, and not the client's");
    }
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
async fn who_leaves_open_whether_a_trace_is_sampled_leaves_it_to_lambda() {
    let system = System::connect().await;
    for undecided in ["", ";Sampled=?"] {
        let (person, origin) = (system.sign_up().await, Origin::default());
        let header = origin.header(true).replace(";Sampled=1", undecided);
        let request = person.request(Method::POST, "/users").json(&json!({"name": "Ara"}));
        assert_eq!(request.header("x-amzn-trace-id", &header).send().await.status, 201);
        // The local Lambda samples everything.
        told(&system, &origin, REGISTERED).await;
    }
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
    let traceparent = origin.traceparent();
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

/// The spans of a copy of a function that answers a request of a person's, all of them.
async fn of_copy(
    system: &System,
    function: &str,
    service: &str,
    proxy: &Proxy,
    mut request: Value,
) -> Vec<Span> {
    let origin = Origin::default();
    request["headers"]["x-amzn-trace-id"] = json!(origin.header(true));
    with_copy(system, function, Changes::endpoint(service, proxy), async |copy| {
        copy.invoke(&request).await;
    })
    .await;
    eventually("the invocation's spans arrive", async || {
        let trace = system.trace(&origin.trace_id).await?;
        let arrived = trace.hops().any(|hop| hop.function.starts_with(function));
        arrived.then_some(trace.spans)
    })
    .await
}

#[tokio::test]
async fn a_call_of_aws_that_is_repeated_says_how_often_and_one_that_is_refused_by_what() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    let read = || {
        let id = Uuid::now_v7();
        http_input("posts-get", Uuid::now_v7(), &format!("/posts/{id}"), &json!({"id": id}))
    };
    let call = |spans: &[Span]| {
        let calls: Vec<&Span> = spans.iter().filter(|span| span.name == "DynamoDB GetItem").collect();
        let [call] = calls[..] else { panic!("one call, its attempts included: {spans:?}") };
        let attribute = |name: &str| call.attributes.get(name).cloned().unwrap_or_default();
        let attributes = ["aws.retries", "http.response.status_code", "error.type"].map(attribute);
        (call.status.clone(), attributes)
    };
    proxy.refuse({
        let calls = std::sync::atomic::AtomicU32::new(0);
        move |_| (calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0).then(Refusal::throttled)
    });
    let spans = of_copy(&system, "posts-get", "DYNAMODB", &proxy, read()).await;
    assert_eq!(call(&spans), ("unset".to_owned(), [json!(1), json!(200), Value::Null]), "{spans:?}");

    proxy.refuse(|_| Some(Refusal::throttled()));
    let spans = of_copy(&system, "posts-get", "DYNAMODB", &proxy, read()).await;
    let (status, [retries, code, reason]) = call(&spans);
    assert_eq!((status.as_str(), &code), ("error", &json!(400)), "{spans:?}");
    assert!(retries.as_u64().unwrap() > 0, "{spans:?}");
    assert_eq!(reason, "ProvisionedThroughputExceededException");
}

/// What the emulator does not look at and AWS goes by: each entry of `PutEvents` says where its event stands in its trace.
#[tokio::test]
async fn the_bus_is_told_the_place_of_each_event_in_its_trace() {
    let system = System::connect().await;
    let (proxy, origins) = (Proxy::start(&system).await, [Origin::default(), Origin::default()]);
    proxy.refuse(|call| Some(Refusal::entries(call, |_| false)));
    let mut batch = input("relay");
    let template = batch["Records"][0].clone();
    let records = origins.iter().zip(1..).map(|(origin, number)| {
        let mut record = template.clone();
        record["dynamodb"]["SequenceNumber"] = json!(number.to_string());
        let outbox = &mut record["dynamodb"]["NewImage"]["outbox"]["M"];
        outbox["id"]["S"] = json!(Uuid::now_v7());
        outbox["traceparent"]["S"] = json!(origin.traceparent());
        record
    });
    batch["Records"] = records.collect();
    with_copy(&system, "posts-relay", Changes::endpoint("EVENTBRIDGE", &proxy), async |relay| {
        relay.invoke(&batch).await;
    })
    .await;
    let calls = proxy.calls();
    let entries = calls[0].input["Entries"].as_array().unwrap();
    for (entry, origin) in entries.iter().zip(&origins) {
        let publication = eventually("the publication's span arrives", async || {
            let trace = system.trace(&origin.trace_id).await?;
            trace.hops().find(|hop| hop.name == "publish post.created").cloned()
        })
        .await;
        assert_eq!(entry["TraceHeader"], Origin::of(&publication).header(true), "{entry}");
    }
    assert_eq!(entries.len(), 2);
}

#[tokio::test]
async fn the_saga_is_told_its_place_in_the_trace_of_the_request() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1).await;
    let proxy = Proxy::start(&system).await;
    let mut request = http_input("orders-place", buyer.id, "/orders", &json!({}));
    request["body"] = json!(order(&sku, 1, CARD).to_string());
    let spans = of_copy(&system, "orders-place", "SFN", &proxy, request).await;
    let named =
        |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{spans:?}"));
    let (invocation, start) = (named("POST /orders"), named("SFN StartExecution"));
    let calls = proxy.calls();
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    let input: Value = serde_json::from_str(call.input["input"].as_str().unwrap()).unwrap();
    assert_eq!(input["traceparent"], Origin::of(invocation).traceparent());
    assert_eq!(call.input["traceHeader"], Origin::of(invocation).header(true));
    // The call's own place, which wins over the other on AWS.
    assert_eq!(call.trace, Some(Origin::of(start).header(true)));
}

#[tokio::test]
async fn a_hop_with_a_cause_that_is_not_known_is_named() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1).await;
    let (origin, trace) = tells(&system, place(&buyer, &sku, DECLINED), 202, REJECTED).await;
    assert_eq!(trace.hops().count(), REJECTED.lines().count());
    for hop in trace.hops() {
        let mut astray = trace.clone();
        let span = astray.spans.iter_mut().find(|span| span.span_id == hop.span_id).unwrap();
        span.parent_id = Some("0123456789abcdef".to_owned());
        let fault = format!("the parent of {} is not known", hop.title());
        assert_eq!(astray.faults(&origin), [fault]);
    }
}
