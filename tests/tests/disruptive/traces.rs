//! Tests of the trace tests: they notice if something on the way loses the trace context.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{Proxy, Refusal, with_endpoint},
    shop::{CARD, new_sku, order, order_id, wait_until_settled},
    stories::{CONFIRMED, REGISTERED, await_story_within, functions, shop_with_known_buyer},
    turns::turn,
};

/// Without the context of a hop, the trace does not have its whole story. Here a proxy between the relay and the bus removes
/// it from the event.
#[tokio::test]
async fn an_event_that_loses_its_trace_context_before_the_bus_is_noticed() {
    let _turn = turn(&["users-relay"], &[]).await;
    let system = System::connect().await;
    let (person, proxy) = (system.sign_up().await, Proxy::start(&system).await);
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
    let origin = with_endpoint(&system, "users-relay", "EVENTBRIDGE", &proxy, async || {
        let register = person.request(Method::POST, "/users").json(&json!({"name": "Bada"}));
        let answer = register.send().await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let taken = eventually("the event is published", async || {
            let taken = taken.lock().unwrap().clone();
            (!taken.is_empty()).then_some(taken)
        })
        .await;
        // Events of other tests may have been in the same call.
        for event in taken {
            system.publish(&event).await;
        }
        person.wait_for_welcome().await;
        answer.trace_context().0
    })
    .await;
    let story = await_story_within(Duration::from_secs(3), &system, &origin, REGISTERED).await;
    let left = "users-register: POST /users\n  users-relay: publish user.created\n";
    assert_eq!(story.unwrap_err(), left);
}

#[tokio::test]
async fn a_saga_that_loses_its_trace_context_is_noticed() {
    let _turn = turn(&["orders-place"], &functions(&[REGISTERED, CONFIRMED])).await;
    let system = System::connect().await;
    let (buyer, sku) = shop_with_known_buyer(&system, 1).await;
    let (proxy, key) = (Proxy::start(&system).await, new_sku("key"));
    let id = order_id(&buyer, &key);
    let execution = system.execution(&id.to_string());
    let started = json!({"executionArn": execution, "startDate": 1_777_887_000});
    // The function gets the answer that the execution was started.
    proxy.refuse(move |call| {
        (call.input["name"] == json!(id)).then(|| Refusal { status: 200, body: started.clone() })
    });
    let origin = with_endpoint(&system, "orders-place", "SFN", &proxy, async || {
        let place = buyer.request(Method::POST, "/orders").key(&key).json(&order(&sku, 1, CARD));
        let answer = place.send().await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let calls = proxy.calls();
        let call = calls.iter().find(|call| call.input["name"] == json!(id)).unwrap();
        let mut input: Value = serde_json::from_str(call.input["input"].as_str().unwrap()).unwrap();
        input["traceparent"] = Value::Null;
        let start = aws_sdk_sfn::Client::new(&system.aws).start_execution().name(id.to_string());
        let start = start.state_machine_arn(system.output("state_machine_arn")).input(input.to_string());
        start.send().await.expect("StartExecution");
        wait_until_settled(&system, &[id]).await;
        answer.trace_context().0
    })
    .await;
    let story = await_story_within(Duration::from_secs(3), &system, &origin, CONFIRMED).await.unwrap_err();
    let outside_the_saga = |line: &&str| {
        !["inventory-", "payments-", "orders-validate", "orders-confirm", "users-"]
            .iter()
            .any(|step| line.trim_start().starts_with(step))
    };
    let without = CONFIRMED.replace(
        "    notifications-on-order: consume order.confirmed\n      notifications-email: consume notification.created\n      \
         notifications-relay: publish notification.created\n    orders-relay: publish order.confirmed\n",
        "",
    );
    let left: Vec<&str> = without.lines().filter(outside_the_saga).collect();
    assert_eq!(story.lines().collect::<Vec<_>>(), left);
}
