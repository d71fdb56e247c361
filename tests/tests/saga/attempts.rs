//! The reconciler: what was never started is started, what ended is started anew, what is alive is left alone.

use std::collections::HashMap;

use aws_sdk_sfn::types::ExecutionStatus;
use futures::future::join_all;
use serde_json::{Value, json};
use system_tests::{
    Person, System, eventually,
    faults::{Changes, with_copy},
    shop::{
        Books, CARD, assert_invariants, at_rest, inject, mend, new_sku, order, order_id, usd, with_faults,
    },
};
use uuid::Uuid;

use crate::FAULTS;

async fn shop(system: &System, on_hand: u32) -> (Person, String) {
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), on_hand).await;
    (buyer, sku)
}

/// Waits until there is an execution of this name; an order is left alone for half a minute before.
async fn is_started(system: &System, name: &str) -> ExecutionStatus {
    eventually(&format!("{name} is started"), async || {
        system.reconcile().await;
        system.execution_status(name).await
    })
    .await
}

/// The input of `orders-place` for an order of this person.
fn input(buyer: &Person, key: &str, body: &Value) -> Value {
    let mut input = system_tests::faults::http_input("orders-place", buyer.id, "/orders", &json!({}));
    let text = body.to_string();
    input["headers"]["content-length"] = json!(text.len().to_string());
    input["headers"]["idempotency-key"] = json!(format!("\"{key}\""));
    input["body"] = json!(text);
    input["isBase64Encoded"] = json!(false);
    input
}

#[tokio::test]
async fn an_order_is_accepted_though_its_execution_cannot_be_started_and_the_reconciler_starts_it() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 3).await;
    let key = new_sku("key");
    let id = order_id(&buyer, &key);
    // Where Step Functions should be, nobody listens.
    let variables = HashMap::from([("AWS_ENDPOINT_URL_SFN".to_owned(), "http://127.0.0.1:9".to_owned())]);
    let changes = Changes { variables, role_of: None };
    with_copy(&system, "orders-place", changes, async |copy| {
        let answer = copy.invoke(&input(&buyer, &key, &order(&sku, 1, CARD))).await.http();
        assert_eq!((answer.status.as_u16(), answer.id()), (202, id), "{answer:?}");
    })
    .await;
    assert_eq!(system.execution_status(&id.to_string()).await, None);
    assert_eq!(Books::read(&system, id).await.reservation, "none");

    is_started(&system, &id.to_string()).await;
    at_rest(&system, &[id]).await;
    assert_eq!(assert_invariants(&system, &[id], &sku, 3).await, 1);
}

/// Places an order with a step that hangs after it took effect, so often.
async fn hanging_order(buyer: &Person, sku: &str, step: &str, times: usize) -> Uuid {
    let key = new_sku("key");
    let id = order_id(buyer, &key);
    inject(id, step, &vec!["hang"; times]);
    let body = order(sku, 1, CARD);
    let placed = buyer.request(reqwest::Method::POST, "/orders").key(&key).json(&body).send().await;
    assert_eq!((placed.status.as_u16(), placed.id()), (202, id), "{placed:?}");
    id
}

/// Stops an execution once it has come to a state.
async fn stop_at(system: &System, name: &str, state: &str) {
    eventually(&format!("{name} is at {state}"), async || {
        system.path(name).await.last().is_some_and(|last| last == state).then_some(())
    })
    .await;
    let sfn = aws_sdk_sfn::Client::new(&system.aws);
    sfn.stop_execution().execution_arn(system.execution(name)).send().await.expect("StopExecution");
}

#[tokio::test]
async fn an_order_whose_execution_was_stopped_goes_on_in_another_one() {
    let _alone = FAULTS.lock().await;
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 2).await;
    with_faults(&system, async || {
        let before = async {
            let id = hanging_order(&buyer, &sku, "payments-authorize", 1).await;
            stop_at(&system, &id.to_string(), "AuthorizePayment").await;
            is_started(&system, &format!("{id}-2")).await;
            at_rest(&system, &[id]).await;
            assert_eq!(system.path(&format!("{id}-2")).await.len(), 6);
            id
        };
        let after = async {
            let id = hanging_order(&buyer, &sku, "orders-confirm", 1).await;
            eventually("it is confirmed", async || {
                (Books::read(&system, id).await.order == "CONFIRMED").then_some(())
            })
            .await;
            stop_at(&system, &id.to_string(), "ConfirmOrder").await;
            is_started(&system, &format!("{id}-2")).await;
            at_rest(&system, &[id]).await;
            let forward = ["ValidateUser", "CapturePayment", "CommitInventory"];
            assert_eq!(system.path(&format!("{id}-2")).await, forward);
            id
        };
        let (before, after) = tokio::join!(before, after);
        assert_eq!(assert_invariants(&system, &[before, after], &sku, 2).await, 2);
    })
    .await;
}

#[tokio::test]
async fn an_order_with_three_stopped_executions_waits_for_a_person_and_settles_once_redriven() {
    let _alone = FAULTS.lock().await;
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1).await;
    with_faults(&system, async || {
        // More often than there are executions: the emulator goes on trying a step of an execution that was stopped.
        let id = hanging_order(&buyer, &sku, "inventory-reserve", 20).await;
        for name in [id.to_string(), format!("{id}-2"), format!("{id}-3")] {
            is_started(&system, &name).await;
            stop_at(&system, &name, "ReserveInventory").await;
        }
        let status = async || buyer.get(&format!("/orders/{id}")).await.body["status"].clone();
        eventually("a person has to look at it", async || {
            system.reconcile().await;
            (status().await == "NEEDS_ATTENTION").then_some(())
        })
        .await;
        assert_eq!(system.execution_status(&format!("{id}-4")).await, None);

        mend(id);
        let sfn = aws_sdk_sfn::Client::new(&system.aws);
        let redrive = sfn.redrive_execution().execution_arn(system.execution(&format!("{id}-3")));
        redrive.send().await.expect("RedriveExecution");
        at_rest(&system, &[id]).await;
        assert_eq!(status().await, "CONFIRMED");
        assert_eq!(assert_invariants(&system, &[id], &sku, 1).await, 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_alive_is_left_alone() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 20).await;
    let orders = join_all((0..20).map(|_| buyer.orders(&sku, 1, CARD))).await;
    system.reconcile().await;
    for order in &orders {
        assert_eq!(system.execution_status(&format!("{order}-2")).await, None);
    }
    at_rest(&system, &orders).await;
    assert_eq!(assert_invariants(&system, &orders, &sku, 20).await, 20);
}
