//! The other side is out of order: each call ends in time, with a reason, and in no other way.

use std::time::{Duration, Instant};

use serde_json::json;
use system_tests::{
    System,
    faults::{Proxy, Refusal, with_copy},
};
use tokio::net::TcpListener;

use super::{Namespace, api_at, finds, is_unavailable, pending_order, question, variables};

/// The longest that a call may take, and then some for the function around it.
const IN_TIME: Duration = Duration::from_secs(6);

#[tokio::test]
async fn an_instance_that_is_out_of_order_makes_users_unavailable_in_time_and_with_a_reason() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let question = question(pending_order(&buyer).await, buyer.id);
    let namespace = Namespace::new(&system).await;
    let proxy = Proxy::start(&system).await;
    namespace.put("faulty", &api_at(&system, &proxy.url)).await;
    let faults: [(&str, Refusal); 4] = [
        ("answered 500 Internal Server Error", Refusal { status: 500, body: json!({}) }),
        ("answered 503 Service Unavailable", Refusal { status: 503, body: json!({}) }),
        ("200 with something that is no user", Refusal { status: 200, body: json!("rubbish") }),
        ("refused with 403 Forbidden", Refusal { status: 403, body: json!({"message": "Forbidden"}) }),
    ];
    with_copy(&system, "orders-validate-user", namespace.changes(), async |copy| {
        for (told, fault) in faults {
            let before = proxy.calls().len();
            let attempts = if fault.status == 403 { 1 } else { 3 };
            proxy.refuse(move |_| Some(fault.clone()));
            let begin = Instant::now();
            let reason = is_unavailable(copy, &question).await;
            assert!(begin.elapsed() < IN_TIME, "{told}: {:?}", begin.elapsed());
            assert_eq!(reason.matches(told).count(), attempts, "{told}: {reason}");
            assert!(reason.contains(&proxy.url), "{told}: {reason}");
            assert_eq!(proxy.calls().len() - before, attempts, "{told}");
        }
        proxy.let_go();
        finds(copy, &question).await;

        proxy.slow_down(Duration::from_secs(30));
        let begin = Instant::now();
        let reason = is_unavailable(copy, &question).await;
        assert!(begin.elapsed() < IN_TIME, "{:?}", begin.elapsed());
        assert!(reason.contains("no answer within 1500 ms"), "{reason}");
        assert!(reason.contains("for the call are over"), "{reason}");
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_resets_connections_or_is_nowhere_is_named() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let question = question(pending_order(&buyer).await, buyer.id);
    let namespace = Namespace::new(&system).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resets = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    for (url, told) in [
        (resets.as_str(), "connection"),
        ("http://127.0.0.1:1", "refused"),
        ("ht!tp://users", "the URL must be"),
        ("http://users.example", "the URL must begin with https://"),
    ] {
        // Another namespace's answer would be kept: a copy for each.
        namespace.put("faulty", url).await;
        with_copy(&system, "orders-validate-user", namespace.changes(), async |copy| {
            let begin = Instant::now();
            let reason = is_unavailable(copy, &question).await;
            assert!(begin.elapsed() < IN_TIME, "{url}: {:?}", begin.elapsed());
            assert!(reason.to_lowercase().contains(told) || reason.contains(told), "{told}: {reason}");
            assert!(reason.contains(url), "{reason}");
        })
        .await;
    }
    namespace.take_away("faulty").await;
    with_copy(&system, "orders-validate-user", namespace.changes(), async |copy| {
        let reason = is_unavailable(copy, &question).await;
        assert!(reason.ends_with(": Cloud Map has no healthy instance of users"), "{reason}");
    })
    .await;
    let nowhere = variables(&[("NAMESPACE", "nowhere")]);
    with_copy(&system, "orders-validate-user", nowhere, async |copy| {
        let reason = is_unavailable(copy, &question).await;
        assert!(reason.contains("NamespaceNotFound"), "{reason}");
    })
    .await;
}

#[tokio::test]
async fn a_static_address_that_is_right_needs_no_cloud_map_and_one_that_is_wrong_is_named() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let question = question(pending_order(&buyer).await, buyer.id);
    // Nobody listens where Cloud Map should be.
    let fixed = |url: &str| {
        variables(&[
            ("DISCOVERY", "static"),
            ("USERS_URL", url),
            ("AWS_ENDPOINT_URL_SERVICEDISCOVERY", "http://127.0.0.1:1"),
        ])
    };
    with_copy(&system, "orders-validate-user", fixed(system.output("api_url")), async |copy| {
        finds(copy, &question).await;
    })
    .await;
    let no_such_api = format!("{}/_aws/execute-api/00000000", system.output("endpoint_url"));
    // A gateway that has no such route.
    let gateway = Proxy::start(&system).await;
    gateway.refuse(|_| Some(Refusal { status: 404, body: json!({"message": "Not Found"}) }));
    for (url, told) in [
        ("http://127.0.0.1:1", "refused"),
        ("users", "the URL must begin with https://"),
        (no_such_api.as_str(), "refused with 403 Forbidden"),
        (&gateway.url, "404, and not from the service: is the address the right one?"),
        ("", "neither USERS_URL nor USERS_LOOKUP is in the function's environment"),
    ] {
        with_copy(&system, "orders-validate-user", fixed(url), async |copy| {
            let reason = is_unavailable(copy, &question).await;
            assert!(reason.contains(told) && reason.contains(url), "{url}: {reason}");
        })
        .await;
    }
}
