//! One trace follows a request through every function that it leads to.
//!
//! The story of a trace is all of its hops: a line for each request or event that reached a function, below the hop that
//! caused it. The calls of AWS APIs between the hops are checked one by one
//! ([`system_tests::traces::Trace::inconsistencies`]).

use kernel::clock::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Answer, System, eventually,
    faults::{Changes, Proxy, Refusal, http_input, input, with_copy},
    shop::{CARD, DECLINED, order},
    stories::{
        COMMENTED, CONFIRMED, DELETED, POSTED, REGISTERED, REJECTED, await_story, place, registered,
        send_traced, shop_with_known_buyer,
    },
    traces::{Origin, Span},
};
use uuid::Uuid;

#[tokio::test]
async fn one_trace_covers_a_request_and_everything_that_follows_from_it() {
    let system = System::connect().await;
    let (ara, bada) = (registered(&system).await, registered(&system).await);
    let preferences = ara.request(Method::PUT, "/notifications/preferences").header("if-match", "\"0\"");
    let mail = json!({"email": true});
    let answer = preferences.json(&mail).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let post = ara.request(Method::POST, "/posts").json(&json!({"title": "Spring", "body": "It rains."}));
    let (_, posted) = send_traced(&system, post, 201, POSTED).await;
    let post = posted.hops().find_map(|hop| hop.attributes.get("post_id")?.as_str()).unwrap().to_owned();
    assert_eq!(system.traces_of(&post).await, [posted.trace_id.as_str()]);

    let comment =
        bada.request(Method::POST, &format!("/posts/{post}/comments")).json(&json!({"body": "So it does."}));
    let (_, commented) = send_traced(&system, comment, 201, COMMENTED).await;
    assert!(commented.spans.iter().any(|span| span.name == "SESv2 SendEmail"), "{commented:?}");

    send_traced(&system, ara.request(Method::DELETE, "/users/me"), 202, DELETED).await;
}

#[tokio::test]
async fn one_trace_covers_every_step_of_an_order() {
    let system = System::connect().await;
    let (buyer, sku) = shop_with_known_buyer(&system, 1).await;
    let (_, trace) = send_traced(&system, place(&buyer, &sku, CARD), 202, CONFIRMED).await;
    // The trace can be found by the order's id, which every step has recorded.
    for hop in trace.hops().filter(|hop| hop.name == hop.function) {
        let order = hop.attributes["order_id"].as_str().unwrap();
        assert!(system.traces_of(order).await.contains(&trace.trace_id), "{hop:?}");
    }
}

#[tokio::test]
async fn a_declined_payment_is_an_error_of_its_step_and_of_no_other() {
    let system = System::connect().await;
    let (buyer, sku) = shop_with_known_buyer(&system, 1).await;
    let (_, trace) = send_traced(&system, place(&buyer, &sku, DECLINED), 202, REJECTED).await;
    let declined = trace.hops().find(|hop| hop.function == "payments-authorize").unwrap();
    // For X-Ray a status of 4xx is an error and not a fault.
    assert_eq!(declined.attributes["http.response.status_code"], 409, "{declined:?}");
    let indexed = declined.attributes["aws.xray.annotations"].as_array().unwrap();
    assert!(["order_id", "error.type"].iter().all(|name| indexed.contains(&json!(name))), "{declined:?}");
}

#[tokio::test]
async fn an_rpc_is_part_of_the_callers_trace() {
    let system = System::connect().await;
    let author = system.registered("Ara").await;
    let post = author.writes_post("Spring").await;
    let request = system.request(Method::GET, &format!("/posts/{post}/author"));
    let story = "posts-author: GET /posts/{id}/author\n  users-lookup: RPC users-lookup\n";
    let (_, trace) = send_traced(&system, request, 200, story).await;
    let names: Vec<&str> = trace.spans.iter().map(|span| span.name.as_str()).collect();
    for name in ["users by RPC", "Lambda Invoke"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[tokio::test]
async fn an_aws_call_records_its_operation_retries_and_result() {
    let system = System::connect().await;
    let (_, trace) = send_traced(
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
async fn a_refused_request_is_an_error_and_can_be_found_by_its_request_id() {
    let system = System::connect().await;
    let unregistered = system.sign_up().await;
    let request =
        unregistered.request(Method::POST, "/posts").json(&json!({"title": "Spring", "body": "It rains."}));
    let answer = request.send().await;
    answer.is_problem(403, "profile-required");
    let (origin, _) = answer.trace_context();
    let story = "posts-create: POST /posts failed: profile-required\n  users-lookup: RPC users-lookup\n";
    await_story(&system, &origin, story).await;
    let request_id = answer.body["instance"].as_str().unwrap().trim_start_matches("urn:uuid:");
    assert_eq!(system.traces_of(request_id).await, [origin.trace_id.as_str()]);
}

/// Waits for the span that an answer names.
async fn answered_span(system: &System, answer: &Answer) -> Span {
    let (context, sampled) = answer.trace_context();
    assert!(sampled, "{answer:?}");
    eventually("the trace has the span that the answer names", async || {
        let trace = system.trace(&context.trace_id).await?;
        trace.spans.into_iter().find(|span| Origin::of(span) == context)
    })
    .await
}

#[tokio::test]
async fn every_answer_names_the_trace_that_holds_its_request() {
    let system = System::connect().await;
    let (ara, unregistered) = (system.registered("Ara").await, system.sign_up().await);
    let post = format!("/posts/{}", ara.writes_post("Spring").await);
    let description = system.get("/openapi.json").await;
    let known = description.header("etag").unwrap();
    let (draft, edit) = (json!({"title": "Spring", "body": "It rains."}), json!({"title": "Summer"}));
    let anonymous = |method, path: &str| system.request(method, path);
    let write = || ara.request(Method::POST, "/posts");
    let change = || ara.request(Method::PATCH, &post);
    for (status, name, request) in [
        (200, "GET /posts/{id}", anonymous(Method::GET, &post)),
        (201, "POST /posts", write().json(&draft)),
        (304, "GET /openapi.json", anonymous(Method::GET, "/openapi.json").header("if-none-match", known)),
        (400, "POST /posts", write().raw("application/json", "{")),
        (401, "POST /payments/webhook", anonymous(Method::POST, "/payments/webhook").json(&json!({}))),
        (403, "POST /posts", unregistered.request(Method::POST, "/posts").json(&draft)),
        (404, "GET /posts/{id}", anonymous(Method::GET, "/posts/not-a-uuid")),
        (412, "PATCH /posts/{id}", change().if_match(9).json(&edit)),
        (413, "POST /posts", write().raw("application/json", "1".repeat(1024 * 1024))),
        (415, "POST /posts", write().raw("text/plain", "{}")),
        (422, "POST /posts", write().json(&edit)),
        (428, "PATCH /posts/{id}", change().json(&edit)),
        (204, "DELETE /posts/{id}", ara.request(Method::DELETE, &post)),
    ] {
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{answer:?}");
        let span = answered_span(&system, &answer).await;
        let found = (span.name.as_str(), &span.attributes["http.response.status_code"]);
        assert_eq!(found, (name, &json!(status)), "{span:?}");
        // The trace can be found by the header's whole value.
        assert_eq!(system.traces_of(answer.header("traceresponse").unwrap()).await, [span.trace_id]);
    }
}

#[tokio::test]
async fn a_5xx_answer_names_its_trace_too() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    let unexpected =
        json!({"__type": "com.amazonaws.dynamodb.v20120810#ValidationException", "message": "no"});
    with_copy(&system, "posts-get", Changes::endpoint("DYNAMODB", &proxy), async |copy| {
        let id = Uuid::now_v7();
        let input = http_input("posts-get", id, &format!("/posts/{id}"), &json!({"id": id}));
        // Sampled by this test, because the emulator's Lambda does not trace a copy.
        let trace = Origin::default().header(true);
        for (status, refusal) in
            [(503, Refusal::throttled()), (500, Refusal { status: 400, body: unexpected.clone() })]
        {
            proxy.refuse(move |_| Some(refusal.clone()));
            let answer = copy.invoke_in_trace(&input, &trace).await.http();
            assert_eq!(answer.status, status, "{answer:?}");
            let span = answered_span(&system, &answer).await;
            assert_eq!(span.attributes["http.response.status_code"], status, "{span:?}");
        }
    })
    .await;
}

/// What a client may send as `X-Amzn-Trace-Id` to decide about a trace, and whether it names a span.
fn claims(origin: &Origin) -> [(String, bool); 8] {
    let header = origin.header(true);
    let root = header.split(';').next().unwrap().to_owned();
    [
        (header.clone(), true),
        (origin.header(false), true),
        (header.replace(";Sampled=1", ""), true),
        (header.replace(";Sampled=1", ";Sampled=?"), true),
        (root, false),
        ("Sampled=1".to_owned(), false),
        ("Sampled=0".to_owned(), false),
        ("rubbish".to_owned(), false),
    ]
}

#[tokio::test]
async fn on_a_public_route_the_client_chooses_neither_the_trace_nor_whether_it_is_sampled() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let origin = Origin::default();
    for (claim, names_a_span) in claims(&origin) {
        for request in [system.request(Method::GET, "/posts?limit=1"), ara.request(Method::GET, "/users/me")]
        {
            let answer = request.header("x-amzn-trace-id", &claim).send().await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let (context, _) = answer.trace_context();
            assert_ne!(context.trace_id, origin.trace_id, "{claim}");
            // The local Lambda samples everything, so this one too.
            let span = answered_span(&system, &answer).await;
            assert!(!origin.is_parent_of(&span), "{span:?}");
            assert_eq!(origin.is_linked_by(&span), names_a_span, "{claim}: {span:?}");
        }
    }
    for (traceparent, names_a_span) in [(origin.traceparent().as_str(), true), ("00-rubbish", false)] {
        let request = ara.request(Method::GET, "/users/me").header("traceparent", traceparent);
        let span = answered_span(&system, &request.send().await).await;
        assert_ne!(span.trace_id, origin.trace_id);
        assert_eq!(origin.is_linked_by(&span), names_a_span, "{traceparent}: {span:?}");
    }
    assert!(system.trace(&origin.trace_id).await.is_none());
}

#[tokio::test]
async fn on_a_signed_route_the_caller_chooses_the_trace_and_whether_it_is_sampled() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let look_up = async |header: &str| {
        let request = system.signed_get(&format!("/internal/users/{}", ara.id));
        let answer = request.header("x-amzn-trace-id", header).send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    };
    let (unsampled, sampled) = (Origin::default(), Origin::default());
    let answer = look_up(&unsampled.header(false)).await;
    let (context, is_sampled) = answer.trace_context();
    assert_eq!((&context.trace_id, is_sampled), (&unsampled.trace_id, false));
    assert_ne!(context, unsampled, "the answer names the caller's span instead of the function's");

    let answer = look_up(&sampled.header(true)).await;
    let span = answered_span(&system, &answer).await;
    assert!(sampled.is_parent_of(&span), "{span:?}");
    // The trace of the later request has arrived, so that of the earlier one would have arrived too.
    assert!(system.trace(&unsampled.trace_id).await.is_none());

    let answer = look_up("rubbish").await;
    let (context, is_sampled) = answer.trace_context();
    assert!(is_sampled && ![&unsampled.trace_id, &sampled.trace_id].contains(&&context.trace_id));
}

#[tokio::test]
async fn lambda_decides_about_sampling_if_the_caller_does_not() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    for undecided in ["", ";Sampled=?"] {
        let origin = Origin::default();
        let header = origin.header(true).replace(";Sampled=1", undecided);
        let request = system.signed_get(&format!("/internal/users/{}", ara.id));
        let answer = request.header("x-amzn-trace-id", &header).send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        // The local Lambda samples everything.
        let span = answered_span(&system, &answer).await;
        assert!(origin.is_parent_of(&span), "{header}: {span:?}");
    }
}

#[tokio::test]
async fn no_span_of_an_unsampled_trace_is_exported() {
    let system = System::connect().await;
    let (sampled, unsampled) = (system.sign_up().await, system.sign_up().await);
    let earlier = Origin::default();
    // A copy, because the local Lambda samples every request to the real function.
    with_copy(&system, "users-register", Changes::default(), async |copy| {
        let mut request = http_input("users-register", unsampled.id, "/users", &json!({}));
        request["body"] = json!(json!({"name": "Ara"}).to_string());
        let answer = copy.invoke_in_trace(&request, &earlier.header(false)).await.http();
        assert_eq!(answer.status, 201, "{answer:?}");
        let (context, is_sampled) = answer.trace_context();
        assert_eq!((context.trace_id, is_sampled), (earlier.trace_id.clone(), false));
    })
    .await;
    unsampled.wait_for_welcome().await;
    // The trace of the later request has arrived, so that of the earlier one would have arrived too.
    let register = sampled.request(Method::POST, "/users").json(&json!({"name": "Ara"}));
    send_traced(&system, register, 201, REGISTERED).await;
    assert!(system.trace(&earlier.trace_id).await.is_none());
}

#[tokio::test]
async fn work_on_a_batch_is_linked_to_its_invocation() {
    let system = System::connect().await;
    let person = system.sign_up().await;
    let register = person.request(Method::POST, "/users").json(&json!({"name": "Ara"}));
    let (_, trace) = send_traced(&system, register, 201, REGISTERED).await;
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
async fn an_event_without_a_trace_context_is_only_in_its_consumers_own_traces() {
    let system = System::connect().await;
    let (person, origin) = (system.registered("Ara").await, Origin::default());
    person.wait_for_welcome().await;
    let event = |id: uuid::Uuid, sequence: u32, traceparent: Option<String>| {
        let mut event = json!({
            "specversion": "1.0", "id": id, "source": "madang.users", "type": "user.updated",
            "subject": person.id, "time": Timestamp::now(), "sequence": sequence, "schemaversion": 1,
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
    let others = eventually("the other event's spans arrive", async || {
        let traces = system.traces_of(&without.to_string()).await;
        (traces.len() == consumers).then_some(traces)
    })
    .await;
    assert!(!others.contains(&origin.trace_id), "{others:?}");
}

/// All spans of the trace of a request that a copy of a function answers.
async fn of_copy(system: &System, function: &str, service: &str, proxy: &Proxy, request: Value) -> Vec<Span> {
    let origin = Origin::default();
    with_copy(system, function, Changes::endpoint(service, proxy), async |copy| {
        copy.invoke_in_trace(&request, &origin.header(true)).await;
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
async fn an_aws_call_records_its_retries_and_the_error_if_it_is_refused() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    let read = || {
        let id = Uuid::now_v7();
        http_input("posts-get", Uuid::now_v7(), &format!("/posts/{id}"), &json!({"id": id}))
    };
    let call = |spans: &[Span]| {
        let calls: Vec<&Span> = spans.iter().filter(|span| span.name == "DynamoDB GetItem").collect();
        let [call] = calls[..] else { panic!("expected one call, whatever its attempts: {spans:?}") };
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

/// AWS continues the trace of an entry of `PutEvents` from this header, which the emulator ignores.
#[tokio::test]
async fn each_entry_of_put_events_carries_the_trace_context_of_its_event() {
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
async fn the_saga_gets_the_trace_context_of_the_request() {
    let system = System::connect().await;
    let (buyer, sku) = shop_with_known_buyer(&system, 1).await;
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
    // The trace context of the call itself, which AWS prefers to the other.
    assert_eq!(call.trace, Some(Origin::of(start).header(true)));
}

#[tokio::test]
async fn a_hop_with_an_unknown_parent_is_reported() {
    let system = System::connect().await;
    let (buyer, sku) = shop_with_known_buyer(&system, 1).await;
    let (origin, trace) = send_traced(&system, place(&buyer, &sku, DECLINED), 202, REJECTED).await;
    assert_eq!(trace.hops().count(), REJECTED.lines().count());
    // The parent of the first hop is Lambda's own span, which no test knows.
    for hop in trace.hops().skip(1) {
        let mut broken = trace.clone();
        let span = broken.spans.iter_mut().find(|span| span.span_id == hop.span_id).unwrap();
        span.parent_id = Some("0123456789abcdef".to_owned());
        let inconsistency = format!("the parent of {} is not known", hop.title());
        assert_eq!(broken.inconsistencies(&origin), [inconsistency]);
    }
}
