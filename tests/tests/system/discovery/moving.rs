//! A service moves, and those who call it follow.

use std::time::{Duration, Instant};

use serde_json::json;
use system_tests::{
    System, eventually,
    faults::{Changes, Proxy, Refusal, with_copy},
};
use tokio::time::sleep;

use super::{Namespace, USERS, api_at, finds, is_unavailable, pending_order, question};

/// How long the directory uses an answer of Cloud Map.
const LIFE: Duration = Duration::from_secs(30);
/// How long a caller that got no answer from Cloud Map does not ask again.
const PAUSE: Duration = Duration::from_secs(5);
const DEPLOYED: &str = "/registry/users/instances/deployed";
const SECOND: &str = "/registry/users/instances/second";

#[tokio::test]
async fn calls_go_on_while_users_moves_and_reach_the_new_place_within_the_caches_time() {
    let _alone = USERS.lock().await;
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let question = question(pending_order(&buyer).await, buyer.id);
    let proxy = Proxy::start(&system).await;
    let registered = system.get_signed("/registry/users").await.body["instances"].clone();
    let mut here = registered[0].clone();
    assert_eq!(here["id"], "deployed", "{registered}");
    let mut there = json!({"url": api_at(&system, &proxy.url)});
    there["function_arn"] = here["function_arn"].clone();
    here.as_object_mut().unwrap().remove("id");

    with_copy(&system, "orders-validate-user", Changes::default(), async |copy| {
        finds(copy, &question).await;
        assert_eq!(proxy.calls(), []);

        assert_eq!(system.send_signed("PUT", SECOND, Some(&there)).await.status, 200);
        assert_eq!(system.send_signed("DELETE", DEPLOYED, None).await.status, 204);
        let moved = Instant::now();
        while proxy.calls().is_empty() && moved.elapsed() < LIFE + Duration::from_secs(2) {
            finds(copy, &question).await;
            sleep(Duration::from_millis(200)).await;
        }
        let found = proxy.calls().len();
        // Before anything is asserted that may fail: others call users too.
        assert_eq!(system.send_signed("PUT", DEPLOYED, Some(&here)).await.status, 200);
        assert_eq!(system.send_signed("DELETE", SECOND, None).await.status, 204);
        assert!(found > 0, "nobody came to the new place within {} s", moved.elapsed().as_secs());
        finds(copy, &question).await;
    })
    .await;
    assert_eq!(system.get_signed("/registry/users").await.body["instances"], registered);
}

#[tokio::test]
async fn a_place_that_is_gone_is_left_at_once_and_no_call_fails() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let question = question(pending_order(&buyer).await, buyer.id);
    let namespace = Namespace::new(&system).await;
    let (first, second) = (Proxy::start(&system).await, Proxy::start(&system).await);
    namespace.put("first", &api_at(&system, &first.url)).await;
    with_copy(&system, "orders-validate-user", namespace.changes(), async |copy| {
        finds(copy, &question).await;
        assert_eq!((first.calls().len(), second.calls().len()), (1, 0));
        // An answer of the last second is beyond doubt.
        sleep(Duration::from_millis(1100)).await;

        first.refuse(|_| Some(Refusal::failure()));
        namespace.put("second", &api_at(&system, &second.url)).await;
        namespace.take_away("first").await;
        finds(copy, &question).await;
        assert_eq!((first.calls().len(), second.calls().len()), (2, 1));
        finds(copy, &question).await;
        assert_eq!((first.calls().len(), second.calls().len()), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn calls_succeed_from_the_last_answer_while_cloud_map_is_silent() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let question = question(pending_order(&buyer).await, buyer.id);
    let namespace = Namespace::new(&system).await;
    namespace.put("here", system.output("api_url")).await;
    let proxy = Proxy::start(&system).await;
    let discoveries =
        || proxy.operations().iter().filter(|operation| *operation == "DiscoverInstances").count();
    let mut changes = namespace.changes();
    changes.variables.extend(Changes::endpoint("SERVICEDISCOVERY", &proxy).variables);
    with_copy(&system, "orders-validate-user", changes, async |copy| {
        for _ in 0..5 {
            finds(copy, &question).await;
        }
        assert_eq!(discoveries(), 1, "the answer is kept");
        proxy.refuse(|_| Some(Refusal::failure()));
        // Beyond the time for which an answer is used.
        sleep(LIFE + Duration::from_secs(1)).await;
        let silent = Instant::now();
        for _ in 0..5 {
            finds(copy, &question).await;
        }
        let asked = discoveries();
        // Twice each time, and each time but after a pause.
        let most = 1 + 2 * (1 + usize::try_from(silent.elapsed().as_secs() / PAUSE.as_secs()).unwrap());
        assert!((2..=most).contains(&asked), "asked anew, and not at each call: {asked} of {most}");

        proxy.let_go();
        eventually("Cloud Map is asked again", async || {
            finds(copy, &question).await;
            (discoveries() > asked).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn who_has_no_answer_yet_says_that_cloud_map_is_silent() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let question = question(pending_order(&buyer).await, buyer.id);
    let namespace = Namespace::new(&system).await;
    namespace.put("here", system.output("api_url")).await;
    let proxy = Proxy::start(&system).await;
    proxy.refuse(|_| Some(Refusal::failure()));
    let mut changes = namespace.changes();
    changes.variables.extend(Changes::endpoint("SERVICEDISCOVERY", &proxy).variables);
    with_copy(&system, "orders-validate-user", changes, async |copy| {
        let reason = is_unavailable(copy, &question).await;
        assert!(reason.contains("Cloud Map does not answer"), "{reason}");
        proxy.let_go();
        finds(copy, &question).await;
    })
    .await;
}
