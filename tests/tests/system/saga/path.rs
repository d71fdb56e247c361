//! The paths through the state machine.

use aws_sdk_sfn::types::{ExecutionStatus, HistoryEventType};
use serde_json::{Value, json};
use system_tests::{
    System, assert_json, eventually,
    shop::{CARD, DECLINED, assert_invariants, shop},
};
use uuid::Uuid;

const COMPENSATIONS: [&str; 4] = ["AbortOrder", "CancelPayment", "ReleaseInventory", "RejectOrder"];

/// Waits until an order's first execution has succeeded, and returns its output.
async fn output(system: &System, order: Uuid) -> Value {
    let name = order.to_string();
    eventually("the execution succeeds", async || {
        let status = system.execution_status(&name).await;
        assert!(!matches!(status, Some(ExecutionStatus::Failed)), "{:?}", system.path(&name).await);
        (status == Some(ExecutionStatus::Succeeded)).then_some(())
    })
    .await;
    let history = system.history(&name).await;
    let succeeded = history.iter().find_map(|event| event.execution_succeeded_event_details()).unwrap();
    serde_json::from_str(succeeded.output().unwrap()).unwrap()
}

#[tokio::test]
async fn a_successful_order_takes_six_transitions() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let order = buyer.orders(&sku, 2, CARD).await;
    assert_json(&output(&system, order).await, &json!({"order_id": order, "outcome": "CONFIRMED"}));
    let history = system.history(&order.to_string()).await;
    // AWS bills each entry of a state as a transition.
    let transitions = history.iter().filter(|event| event.r#type.as_str().ends_with("StateEntered")).count();
    assert_eq!(transitions, 6);
    let failed = history.iter().filter(|event| event.r#type == HistoryEventType::TaskFailed).count();
    assert_eq!(failed, 0);
    let path = system.path(&order.to_string()).await;
    assert_eq!(
        path,
        [
            "ValidateUser",
            "ReserveInventory",
            "AuthorizePayment",
            "ConfirmOrder",
            "CapturePayment",
            "CommitInventory"
        ]
    );
    assert_eq!(assert_invariants(&system, &[order], &sku, 5).await, 1);
}

#[tokio::test]
async fn a_declined_card_is_compensated_in_an_execution_that_succeeds() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let order = buyer.orders(&sku, 2, DECLINED).await;
    let expected = json!({"order_id": order, "outcome": "REJECTED", "reason": "payment_declined"});
    assert_json(&output(&system, order).await, &expected);
    let forward = ["ValidateUser", "ReserveInventory", "AuthorizePayment"];
    assert_eq!(system.path(&order.to_string()).await, [&forward[..], &COMPENSATIONS].concat());
    assert_eq!(assert_invariants(&system, &[order], &sku, 5).await, 0);
}

#[tokio::test]
async fn an_order_that_is_out_of_stock_never_gets_to_the_payment() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1).await;
    let order = buyer.orders(&sku, 2, CARD).await;
    let expected = json!({"order_id": order, "outcome": "REJECTED", "reason": "out_of_stock"});
    assert_json(&output(&system, order).await, &expected);
    assert_eq!(
        system.path(&order.to_string()).await,
        [&["ValidateUser", "ReserveInventory"][..], &COMPENSATIONS].concat()
    );
    assert_eq!(assert_invariants(&system, &[order], &sku, 1).await, 0);
}

#[tokio::test]
async fn an_order_of_a_deleted_user_is_rejected() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    // By now the orders service knows the buyer.
    buyer.wait_for_welcome().await;
    system.wait_until_drained("orders-on-user").await;
    // The token is still valid, and the orders service may not know of the deletion yet.
    assert_eq!(buyer.delete("/users/me").await.status, 202);
    let answer = buyer.post("/orders", &system_tests::shop::order(&sku, 1, CARD)).await;
    if answer.status == 403 {
        answer.is_problem(403, "profile-deleted");
        return;
    }
    let order = answer.id();
    let expected = json!({"order_id": order, "outcome": "REJECTED", "reason": "user_not_found"});
    assert_json(&output(&system, order).await, &expected);
    assert_eq!(assert_invariants(&system, &[order], &sku, 5).await, 0);
}
