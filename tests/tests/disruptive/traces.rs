//! Traces of what is disturbed on the way, and the test of the tests of traces.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{Proxy, Refusal, with_endpoint},
    shop::{CARD, at_rest, new_sku, order, order_id},
    stories::{CONFIRMED, REGISTERED, functions, shop, told_within},
    traces::Origin,
    turns::turn,
};

/// The test of the test: when a hop of the running system loses the context, the story is not told. Here somebody between the
/// relay and the bus passes the event on without it.
#[tokio::test]
async fn an_event_that_loses_its_place_on_the_way_to_the_bus_does_not_go_unnoticed() {
    let _turn = turn(&["users-relay"], &[]).await;
    let system = System::connect().await;
    let (person, origin, proxy) = (system.sign_up().await, Origin::default(), Proxy::start(&system).await);
    let id = json!(person.id);
    let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
    proxy.refuse({
        let taken = Arc::clone(&taken);
        move |call| {
            let events = call.input["Entries"].as_array()?.iter();
            let mut events: Vec<Value> = events
                .map(|entry| serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap())
                .collect();
            let mine = events.iter_mut().find(|event| event["subject"] == id)?;
            mine.as_object_mut().unwrap().remove("traceparent");
            taken.lock().unwrap().extend(events);
            Some(Refusal::entries(call, |_| false))
        }
    });
    with_endpoint(&system, "users-relay", "EVENTBRIDGE", &proxy, async || {
        let register = person.request(Method::POST, "/users").json(&json!({"name": "Bada"}));
        assert_eq!(register.traced(&origin).send().await.status, 201);
        let taken = eventually("the event is published", async || {
            let taken = taken.lock().unwrap().clone();
            (!taken.is_empty()).then_some(taken)
        })
        .await;
        // Others' events may have been on their way with it.
        for event in taken {
            system.publish(&event).await;
        }
        person.is_welcomed().await;
    })
    .await;
    let told = told_within(Duration::from_secs(3), &system, &origin, REGISTERED).await;
    let left = "users-register: POST /users\n  users-relay: publish user.created\n";
    assert_eq!(told.unwrap_err(), left);
}

#[tokio::test]
async fn a_saga_that_loses_its_place_does_not_go_unnoticed() {
    let _turn = turn(&["orders-place"], &functions(&[REGISTERED, CONFIRMED])).await;
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1).await;
    let (origin, proxy, key) = (Origin::default(), Proxy::start(&system).await, new_sku("key"));
    let id = order_id(&buyer, &key);
    let execution = system.execution(&id.to_string());
    let started = json!({"executionArn": execution, "startDate": 1_777_887_000});
    // It seems to be started.
    proxy.refuse(move |call| {
        (call.input["name"] == json!(id)).then(|| Refusal { status: 200, body: started.clone() })
    });
    with_endpoint(&system, "orders-place", "SFN", &proxy, async || {
        let place = buyer.request(Method::POST, "/orders").key(&key).json(&order(&sku, 1, CARD));
        assert_eq!(place.traced(&origin).send().await.status, 202);
        let calls = proxy.calls();
        let call = calls.iter().find(|call| call.input["name"] == json!(id)).unwrap();
        let mut input: Value = serde_json::from_str(call.input["input"].as_str().unwrap()).unwrap();
        input["traceparent"] = Value::Null;
        let start = aws_sdk_sfn::Client::new(&system.aws).start_execution().name(id.to_string());
        let start = start.state_machine_arn(system.output("state_machine_arn")).input(input.to_string());
        start.send().await.expect("StartExecution");
        at_rest(&system, &[id]).await;
    })
    .await;
    let told = told_within(Duration::from_secs(3), &system, &origin, CONFIRMED).await.unwrap_err();
    let of_the_saga = |line: &&str| {
        !["inventory-", "payments-", "orders-validate", "orders-confirm", "users-"]
            .iter()
            .any(|step| line.trim_start().starts_with(step))
    };
    let without = CONFIRMED.replace(
        "    notifications-on-order: consume order.confirmed\n      notifications-email: consume notification.created\n      \
         notifications-relay: publish notification.created\n    orders-relay: publish order.confirmed\n",
        "",
    );
    let left: Vec<&str> = without.lines().filter(of_the_saga).collect();
    assert_eq!(told.lines().collect::<Vec<_>>(), left);
}
