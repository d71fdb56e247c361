//! A service moves, and its callers follow.

use std::time::{Duration, Instant};

use serde_json::json;
use system_tests::{
    System, eventually,
    faults::{Changes, Proxy, Refusal, with_copy},
};
use tokio::time::sleep;

use super::{Namespace, USERS, api_at, assert_found, assert_unavailable, input, pending_order};

/// How long a caller uses an answer of Cloud Map.
const CACHE_TIME: Duration = Duration::from_secs(30);
/// How long a caller waits before it asks Cloud Map again after a failure.
const PAUSE: Duration = Duration::from_secs(5);
const DEPLOYED: &str = "/registry/users/instances/deployed";
const SECOND: &str = "/registry/users/instances/second";

#[tokio::test]
async fn calls_succeed_while_users_moves_and_reach_the_new_instance_once_the_cache_expires() {
    let _alone = USERS.lock().await;
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let input = input(pending_order(&buyer).await, buyer.id);
    let proxy = Proxy::start(&system).await;
    let registered = system.get_signed("/registry/users").await.body["instances"].clone();
    let mut old_instance = registered[0].clone();
    assert_eq!(old_instance["id"], "deployed", "{registered}");
    let mut new_instance = json!({"url": api_at(&system, &proxy.url)});
    new_instance["function_arn"] = old_instance["function_arn"].clone();
    old_instance.as_object_mut().unwrap().remove("id");

    with_copy(&system, "orders-validate-user", Changes::default(), async |copy| {
        assert_found(copy, &input).await;
        assert_eq!(proxy.calls(), []);

        assert_eq!(system.send_signed("PUT", SECOND, Some(&new_instance)).await.status, 200);
        assert_eq!(system.send_signed("DELETE", DEPLOYED, None).await.status, 204);
        let moved = Instant::now();
        while proxy.calls().is_empty() && moved.elapsed() < CACHE_TIME + Duration::from_secs(2) {
            assert_found(copy, &input).await;
            sleep(Duration::from_millis(200)).await;
        }
        let found = proxy.calls().len();
        // Restored before the next assertion, which may fail, because other tests call users too.
        assert_eq!(system.send_signed("PUT", DEPLOYED, Some(&old_instance)).await.status, 200);
        assert_eq!(system.send_signed("DELETE", SECOND, None).await.status, 204);
        assert!(found > 0, "no call reached the new instance within {} s", moved.elapsed().as_secs());
        assert_found(copy, &input).await;
    })
    .await;
    assert_eq!(system.get_signed("/registry/users").await.body["instances"], registered);
}

#[tokio::test]
async fn calls_switch_at_once_from_an_instance_that_is_gone_and_none_fails() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let input = input(pending_order(&buyer).await, buyer.id);
    let namespace = Namespace::new(&system).await;
    let (first, second) = (Proxy::start(&system).await, Proxy::start(&system).await);
    namespace.register("first", &api_at(&system, &first.url)).await;
    with_copy(&system, "orders-validate-user", namespace.changes(), async |copy| {
        assert_found(copy, &input).await;
        assert_eq!((first.calls().len(), second.calls().len()), (1, 0));
        // For a second, a caller does not doubt an answer of Cloud Map.
        sleep(Duration::from_millis(1100)).await;

        first.refuse(|_| Some(Refusal::failure()));
        namespace.register("second", &api_at(&system, &second.url)).await;
        namespace.deregister("first").await;
        assert_found(copy, &input).await;
        assert_eq!((first.calls().len(), second.calls().len()), (2, 1));
        assert_found(copy, &input).await;
        assert_eq!((first.calls().len(), second.calls().len()), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn calls_use_the_last_answer_while_cloud_map_does_not_answer() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let input = input(pending_order(&buyer).await, buyer.id);
    let namespace = Namespace::new(&system).await;
    namespace.register("here", system.output("api_url")).await;
    let proxy = Proxy::start(&system).await;
    let discoveries =
        || proxy.operations().iter().filter(|operation| *operation == "DiscoverInstances").count();
    let mut changes = namespace.changes();
    changes.variables.extend(Changes::endpoint("SERVICEDISCOVERY", &proxy).variables);
    with_copy(&system, "orders-validate-user", changes, async |copy| {
        for _ in 0..5 {
            assert_found(copy, &input).await;
        }
        assert_eq!(discoveries(), 1, "the answer is not cached");
        proxy.refuse(|_| Some(Refusal::failure()));
        // Until the cached answer has expired.
        sleep(CACHE_TIME + Duration::from_secs(1)).await;
        let outage = Instant::now();
        for _ in 0..5 {
            assert_found(copy, &input).await;
        }
        let requests = discoveries();
        // A caller makes two attempts and then pauses.
        let maximum = 1 + 2 * (1 + usize::try_from(outage.elapsed().as_secs() / PAUSE.as_secs()).unwrap());
        assert!(
            (2..=maximum).contains(&requests),
            "not between 2 and {maximum} requests to Cloud Map: {requests}"
        );

        proxy.allow_all();
        eventually("Cloud Map is asked again", async || {
            assert_found(copy, &input).await;
            (discoveries() > requests).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_caller_without_a_cached_answer_reports_that_cloud_map_does_not_answer() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let input = input(pending_order(&buyer).await, buyer.id);
    let namespace = Namespace::new(&system).await;
    namespace.register("here", system.output("api_url")).await;
    let proxy = Proxy::start(&system).await;
    proxy.refuse(|_| Some(Refusal::failure()));
    let mut changes = namespace.changes();
    changes.variables.extend(Changes::endpoint("SERVICEDISCOVERY", &proxy).variables);
    with_copy(&system, "orders-validate-user", changes, async |copy| {
        let reason = assert_unavailable(copy, &input).await;
        assert!(reason.contains("Cloud Map does not answer"), "{reason}");
        proxy.allow_all();
        assert_found(copy, &input).await;
    })
    .await;
}
