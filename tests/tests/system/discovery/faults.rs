//! Calls of a faulty service: each fails in time and gives the reason.

use std::time::{Duration, Instant};

use serde_json::json;
use system_tests::{
    System,
    faults::{Proxy, Refusal, with_copy},
};
use tokio::net::TcpListener;

use super::{Namespace, api_at, assert_found, assert_unavailable, input, pending_order, variables};

/// Maximum duration of a call, and of the function that makes it.
const IN_TIME: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_faulty_instance_makes_users_unavailable_in_time_and_with_a_reason() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let input = input(pending_order(&buyer).await, buyer.id);
    let namespace = Namespace::new(&system).await;
    let proxy = Proxy::start(&system).await;
    namespace.register("faulty", &api_at(&system, &proxy.url)).await;
    let faults: [(&str, Refusal); 4] = [
        ("answered 500 Internal Server Error", Refusal { status: 500, body: json!({}) }),
        ("answered 503 Service Unavailable", Refusal { status: 503, body: json!({}) }),
        ("200, but the body is not a user", Refusal { status: 200, body: json!("rubbish") }),
        ("refused with 403 Forbidden", Refusal { status: 403, body: json!({"message": "Forbidden"}) }),
    ];
    with_copy(&system, "orders-validate-user", namespace.changes(), async |copy| {
        for (expected, fault) in faults {
            let before = proxy.calls().len();
            let attempts = if fault.status == 403 { 1 } else { 3 };
            proxy.refuse(move |_| Some(fault.clone()));
            let begin = Instant::now();
            let reason = assert_unavailable(copy, &input).await;
            assert!(begin.elapsed() < IN_TIME, "{expected}: {:?}", begin.elapsed());
            assert_eq!(reason.matches(expected).count(), attempts, "{expected}: {reason}");
            assert!(reason.contains(&proxy.url), "{expected}: {reason}");
            assert_eq!(proxy.calls().len() - before, attempts, "{expected}");
        }
        proxy.allow_all();
        assert_found(copy, &input).await;

        proxy.slow_down(Duration::from_secs(30));
        let begin = Instant::now();
        let reason = assert_unavailable(copy, &input).await;
        assert!(begin.elapsed() < IN_TIME, "{:?}", begin.elapsed());
        assert!(reason.contains("no answer within 1500 ms"), "{reason}");
        assert!(reason.contains("the call timed out after"), "{reason}");
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_resets_connections_or_cannot_be_reached_is_named() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let input = input(pending_order(&buyer).await, buyer.id);
    let namespace = Namespace::new(&system).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resets = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    for (url, expected) in [
        (resets.as_str(), "connection"),
        ("http://127.0.0.1:1", "refused"),
        ("ht!tp://users", "the URL must be"),
        ("http://users.example", "the URL must begin with https://"),
    ] {
        // A new copy for each URL, because a copy caches the answer of Cloud Map.
        namespace.register("faulty", url).await;
        with_copy(&system, "orders-validate-user", namespace.changes(), async |copy| {
            let begin = Instant::now();
            let reason = assert_unavailable(copy, &input).await;
            assert!(begin.elapsed() < IN_TIME, "{url}: {:?}", begin.elapsed());
            assert!(
                reason.to_lowercase().contains(expected) || reason.contains(expected),
                "{expected}: {reason}"
            );
            assert!(reason.contains(url), "{reason}");
        })
        .await;
    }
    namespace.deregister("faulty").await;
    with_copy(&system, "orders-validate-user", namespace.changes(), async |copy| {
        let reason = assert_unavailable(copy, &input).await;
        assert!(reason.ends_with(": Cloud Map has no healthy instance of users"), "{reason}");
    })
    .await;
    let nowhere = variables(&[("NAMESPACE", "nowhere")]);
    with_copy(&system, "orders-validate-user", nowhere, async |copy| {
        let reason = assert_unavailable(copy, &input).await;
        assert!(reason.contains("NamespaceNotFound"), "{reason}");
    })
    .await;
}

#[tokio::test]
async fn a_correct_static_address_needs_no_cloud_map_and_a_wrong_one_is_named() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let input = input(pending_order(&buyer).await, buyer.id);
    // Nothing listens at this address of Cloud Map.
    let fixed = |url: &str| {
        variables(&[
            ("DISCOVERY", "static"),
            ("USERS_URL", url),
            ("AWS_ENDPOINT_URL_SERVICEDISCOVERY", "http://127.0.0.1:1"),
        ])
    };
    with_copy(&system, "orders-validate-user", fixed(system.output("api_url")), async |copy| {
        assert_found(copy, &input).await;
    })
    .await;
    let no_such_api = format!("{}/_aws/execute-api/00000000", system.output("endpoint_url"));
    // An API Gateway without the route.
    let gateway = Proxy::start(&system).await;
    gateway.refuse(|_| Some(Refusal { status: 404, body: json!({"message": "Not Found"}) }));
    for (url, expected) in [
        ("http://127.0.0.1:1", "refused"),
        ("users", "the URL must begin with https://"),
        (no_such_api.as_str(), "refused with 403 Forbidden"),
        (&gateway.url, "404, but not from the service: check the address"),
        ("", "neither USERS_URL nor USERS_LOOKUP is in the function's environment"),
    ] {
        with_copy(&system, "orders-validate-user", fixed(url), async |copy| {
            let reason = assert_unavailable(copy, &input).await;
            assert!(reason.contains(expected) && reason.contains(url), "{url}: {reason}");
        })
        .await;
    }
}
