//! The reconciler starts executions that could not be started, and leaves running ones alone.

use std::collections::HashMap;

use futures::future::join_all;
use serde_json::{Value, json};
use system_tests::{
    Person, System,
    faults::{Changes, with_copy},
    shop::{CARD, OrderRecords, assert_invariants, new_sku, order, order_id, shop, wait_until_settled},
    turns::{PROCESSORS, turn},
};

/// The input of `orders-place` for an order of this buyer.
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
async fn an_order_is_accepted_even_if_its_execution_cannot_start_and_the_reconciler_starts_it() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 3).await;
    let key = new_sku("key");
    let id = order_id(&buyer, &key);
    // Nothing listens at this address of Step Functions.
    let variables = HashMap::from([("AWS_ENDPOINT_URL_SFN".to_owned(), "http://127.0.0.1:9".to_owned())]);
    let changes = Changes { variables, role_of: None };
    with_copy(&system, "orders-place", changes, async |copy| {
        let answer = copy.invoke(&input(&buyer, &key, &order(&sku, 1, CARD))).await.http();
        assert_eq!((answer.status.as_u16(), answer.id()), (202, id), "{answer:?}");
    })
    .await;
    assert_eq!(system.execution_status(&id.to_string()).await, None);
    assert_eq!(OrderRecords::read(&system, id).await.reservation, "none");

    system.wait_until_started(&id.to_string()).await;
    wait_until_settled(&system, &[id]).await;
    assert_eq!(assert_invariants(&system, &[id], &sku, 3).await, 1);
}

#[tokio::test]
async fn the_reconciler_leaves_running_executions_alone() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 20).await;
    let orders = join_all((0..20).map(|_| buyer.orders(&sku, 1, CARD))).await;
    system.reconcile().await;
    for order in &orders {
        assert_eq!(system.execution_status(&format!("{order}-2")).await, None);
    }
    wait_until_settled(&system, &orders).await;
    assert_eq!(assert_invariants(&system, &orders, &sku, 20).await, 20);
}
