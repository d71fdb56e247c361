//! A relay that dies, or whose bus refuses an event: the stream keeps the event until it is published.

use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{Call, Proxy, Refusal, kill, with_endpoint},
    turns::turn,
};
use uuid::Uuid;

/// Whether a call would put somebody's `user.created` on the bus.
fn tells_of(call: &Call, person: Uuid) -> bool {
    call.operation == "PutEvents" && call.input.to_string().contains(&person.to_string())
}

#[tokio::test]
async fn a_relay_that_dies_before_the_bus_takes_an_event_publishes_it_when_it_is_back() {
    let _turn = turn(&["users-relay"], &[]).await;
    let system = System::connect().await;
    let person = system.sign_up().await;
    let id = person.id;
    let proxy = Proxy::start(&system).await;
    proxy.refuse(move |call| tells_of(call, id).then(Refusal::failure));
    with_endpoint(&system, "users-relay", "EVENTBRIDGE", &proxy, async || {
        person.post("/users", &json!({"name": "Ara"})).await;
        let tries = || proxy.calls().iter().filter(|call| tells_of(call, id)).count();
        eventually("the relay tries", async || (tries() > 0).then_some(())).await;
        kill("users-relay").await;
        assert_eq!(person.notifications("welcome").await, Vec::<Value>::new());

        proxy.let_go();
        person.is_welcomed().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_that_the_bus_refuses_stays_in_the_stream_until_the_bus_takes_it() {
    let _turn = turn(&["users-relay"], &[]).await;
    let system = System::connect().await;
    let person = system.sign_up().await;
    let id = person.id;
    let proxy = Proxy::start(&system).await;
    proxy.refuse(move |call| tells_of(call, id).then(Refusal::throttled));
    with_endpoint(&system, "users-relay", "EVENTBRIDGE", &proxy, async || {
        person.post("/users", &json!({"name": "Ara"})).await;
        // One delivery tries three times, and so does the SDK's client each time.
        let tries = || proxy.calls().iter().filter(|call| tells_of(call, id)).count();
        eventually("the stream delivers the record again", async || (tries() > 9).then_some(())).await;
        assert_eq!(person.notifications("welcome").await, Vec::<Value>::new());

        proxy.let_go();
        person.is_welcomed().await;
    })
    .await;
}
