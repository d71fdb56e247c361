//! Parked orders: a step that the saga cannot give up has used up its retries, and the order waits for an operator.

use aws_sdk_sfn::types::ExecutionStatus;
use futures::future::join_all;
use serde_json::json;
use std::{
    process::Stdio,
    time::{Duration, Instant},
};
use system_tests::{
    System, eventually,
    faults::retries::Retries,
    shop::{
        CARD, DECLINED, assert_invariants, inject, new_sku, order, order_id, saga, usd, wait_until_settled,
        with_faults,
    },
    turns::turn,
};
use tokio::process::Command;
use uuid::Uuid;

/// Maximum time that the retries of a step take, their pauses excepted.
const PATIENCE: Duration = Duration::from_mins(3);

#[tokio::test]
async fn an_order_that_cannot_be_settled_waits_for_an_operator_and_settles_once_redriven() {
    let _turn = turn(&[], &saga()).await;
    let system = System::connect().await;
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), 10).await;
    buyer.wait_for_welcome().await;

    let cases = [
        ("payments-capture", CARD, "CONFIRMED"),
        ("inventory-commit", CARD, "CONFIRMED"),
        ("orders-abort", DECLINED, "REJECTED"),
        ("payments-cancel", DECLINED, "REJECTED"),
        ("inventory-release", DECLINED, "REJECTED"),
        ("orders-reject", DECLINED, "REJECTED"),
    ];
    with_faults(&system, async || {
        let all = cases.map(async |(step, payment_method, ends)| {
            let key = new_sku("key");
            let id = order_id(&buyer, &key);
            let retries = Retries::of(step, "Transient");
            inject(id, step, &vec!["before"; retries.invocations]);
            let body = order(&sku, 1, payment_method);
            let placed = buyer.request(reqwest::Method::POST, "/orders").key(&key).json(&body).send();
            assert_eq!(placed.await.id(), id);
            is_parked(&system, id, retries.pauses + PATIENCE).await;
            assert_eq!(system.path(&id.to_string()).await.last().unwrap(), "Park");
            let answer = buyer.get(&format!("/orders/{id}")).await;
            assert_eq!(answer.body["status"], "NEEDS_ATTENTION", "{step}: {answer:?}");
            let path = format!("/orders/{id}/cancel");
            buyer.post(&path, &json!({})).await.is_problem(409, "conflict");

            // The reconciler leaves the order to the operator.
            system.reconcile().await;
            assert_eq!(system.execution_status(&format!("{id}-2")).await, None);

            // All injected faults are used up, so the next run of the step succeeds.
            retry(id).await;
            wait_until_settled(&system, &[id]).await;
            let answer = buyer.get(&format!("/orders/{id}")).await;
            assert_eq!(answer.body["status"], ends, "{step}: {answer:?}");
            id
        });
        let orders = join_all(all).await;
        assert_eq!(assert_invariants(&system, &orders, &sku, 10).await, 2);
    })
    .await;

    let notifications = eventually("the buyer has a notification of each order", async || {
        let notifications = buyer.notifications("order_needs_attention").await;
        (notifications.len() >= cases.len()).then_some(notifications)
    })
    .await;
    assert_eq!(notifications.len(), cases.len());
}

/// Runs `make order-retry`, which redrives the execution and waits until it has ended.
async fn retry(order: Uuid) {
    let retry = Command::new("make")
        .args(["order-retry", &format!("ID={order}")])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null())
        .output()
        .await
        .expect("make");
    let [output, errors] = [&retry.stdout, &retry.stderr].map(|output| String::from_utf8_lossy(output));
    assert!(retry.status.success(), "{output}{errors}");
}

/// Waits until an order's execution has failed, which is how it leaves the order to an operator.
async fn is_parked(system: &System, order: Uuid, patience: Duration) {
    let start = Instant::now();
    loop {
        let status = system.execution_status(&order.to_string()).await;
        if status == Some(ExecutionStatus::Failed) {
            return;
        }
        assert_eq!(status, Some(ExecutionStatus::Running), "{order}");
        assert!(start.elapsed() < patience, "{order}: {:?}", system.path(&order.to_string()).await);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
