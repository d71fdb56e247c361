//! A relay that crashes, or whose event the bus refuses: the stream keeps the event until it is published.

use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{Call, Proxy, Refusal, kill, with_endpoint},
    turns::turn,
};
use uuid::Uuid;

/// Whether a call puts this user's `user.created` on the bus.
fn publishes(call: &Call, person: Uuid) -> bool {
    call.operation == "PutEvents" && call.input.to_string().contains(&person.to_string())
}

#[tokio::test]
async fn a_relay_that_crashes_before_it_publishes_an_event_publishes_it_after_a_restart() {
    let _turn = turn(&["users-relay"], &[]).await;
    let system = System::connect().await;
    let person = system.sign_up().await;
    let id = person.id;
    let proxy = Proxy::start(&system).await;
    proxy.refuse(move |call| publishes(call, id).then(Refusal::failure));
    with_endpoint(&system, "users-relay", "EVENTBRIDGE", &proxy, async || {
        person.post("/users", &json!({"name": "Ara"})).await;
        let attempts = || proxy.calls().iter().filter(|call| publishes(call, id)).count();
        eventually("the relay tries", async || (attempts() > 0).then_some(())).await;
        kill("users-relay").await;
        assert_eq!(person.notifications("welcome").await, Vec::<Value>::new());

        proxy.allow_all();
        person.wait_for_welcome().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_that_the_bus_refuses_stays_in_the_stream_until_the_bus_accepts_it() {
    let _turn = turn(&["users-relay"], &[]).await;
    let system = System::connect().await;
    let person = system.sign_up().await;
    let id = person.id;
    let proxy = Proxy::start(&system).await;
    proxy.refuse(move |call| publishes(call, id).then(Refusal::throttled));
    with_endpoint(&system, "users-relay", "EVENTBRIDGE", &proxy, async || {
        person.post("/users", &json!({"name": "Ara"})).await;
        // One delivery makes three attempts.
        let attempts = || proxy.calls().iter().filter(|call| publishes(call, id)).count();
        eventually("the stream delivers the record again", async || (attempts() > 3).then_some(())).await;
        assert_eq!(person.notifications("welcome").await, Vec::<Value>::new());

        proxy.allow_all();
        person.wait_for_welcome().await;
    })
    .await;
}
