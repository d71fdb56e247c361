//! If an execution ends without settling its order, the reconciler starts the next one. After three it leaves the order to an
//! operator.

use aws_sdk_sfn::types::ExecutionStatus;
use reqwest::Method;
use system_tests::{
    Person, System, eventually,
    shop::{
        CARD, DECLINED, OrderRecords, assert_invariants, inject, new_sku, order, order_id, remove_faults,
        saga, shop, wait_until_settled, with_faults,
    },
    stories::{self, REGISTERED},
    turns::turn,
};
use uuid::Uuid;

/// Places an order and makes one of its steps hang, after its effect, this many times.
async fn hanging_order(buyer: &Person, sku: &str, step: &str, times: usize) -> Uuid {
    let key = new_sku("key");
    let id = order_id(buyer, &key);
    inject(id, step, &vec!["hang"; times]);
    let body = order(sku, 1, CARD);
    let placed = buyer.request(Method::POST, "/orders").key(&key).json(&body).send().await;
    assert_eq!((placed.status.as_u16(), placed.id()), (202, id), "{placed:?}");
    id
}

/// Stops an execution once it has reached a state.
async fn stop_at(system: &System, name: &str, state: &str) {
    eventually(&format!("{name} is at {state}"), async || {
        system.path(name).await.last().is_some_and(|last| last == state).then_some(())
    })
    .await;
    let sfn = aws_sdk_sfn::Client::new(&system.aws);
    sfn.stop_execution().execution_arn(system.execution(name)).send().await.expect("StopExecution");
}

#[tokio::test]
async fn an_order_whose_execution_was_stopped_continues_in_another_execution() {
    let _turn = turn(&[], &saga()).await;
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 2).await;
    with_faults(&system, async || {
        let before_pivot = async {
            let id = hanging_order(&buyer, &sku, "payments-authorize", 1).await;
            stop_at(&system, &id.to_string(), "AuthorizePayment").await;
            system.wait_until_started(&format!("{id}-2")).await;
            wait_until_settled(&system, &[id]).await;
            assert_eq!(system.path(&format!("{id}-2")).await.len(), 6);
            id
        };
        let after_pivot = async {
            let id = hanging_order(&buyer, &sku, "orders-confirm", 1).await;
            eventually("the order is confirmed", async || {
                (OrderRecords::read(&system, id).await.order == "CONFIRMED").then_some(())
            })
            .await;
            stop_at(&system, &id.to_string(), "ConfirmOrder").await;
            system.wait_until_started(&format!("{id}-2")).await;
            wait_until_settled(&system, &[id]).await;
            let forward = ["ValidateUser", "CapturePayment", "CommitInventory"];
            assert_eq!(system.path(&format!("{id}-2")).await, forward);
            id
        };
        let (first, second) = tokio::join!(before_pivot, after_pivot);
        assert_eq!(assert_invariants(&system, &[first, second], &sku, 2).await, 2);
    })
    .await;
}

#[tokio::test]
async fn an_order_with_three_stopped_executions_waits_for_an_operator_and_settles_once_redriven() {
    let _turn = turn(&[], &saga()).await;
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1).await;
    with_faults(&system, async || {
        // More often than there are executions, because the emulator keeps retrying a step of a stopped execution.
        let id = hanging_order(&buyer, &sku, "inventory-reserve", 20).await;
        for name in [id.to_string(), format!("{id}-2"), format!("{id}-3")] {
            system.wait_until_started(&name).await;
            stop_at(&system, &name, "ReserveInventory").await;
        }
        let status = async || buyer.get(&format!("/orders/{id}")).await.body["status"].clone();
        eventually("the order waits for an operator", async || {
            system.reconcile().await;
            (status().await == "NEEDS_ATTENTION").then_some(())
        })
        .await;
        assert_eq!(system.execution_status(&format!("{id}-4")).await, None);

        remove_faults(id);
        let sfn = aws_sdk_sfn::Client::new(&system.aws);
        let redrive = sfn.redrive_execution().execution_arn(system.execution(&format!("{id}-3")));
        redrive.send().await.expect("RedriveExecution");
        wait_until_settled(&system, &[id]).await;
        assert_eq!(status().await, "CONFIRMED");
        assert_eq!(assert_invariants(&system, &[id], &sku, 1).await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_order_that_the_reconciler_restarts_stays_in_its_trace() {
    let _turn = turn(&[], &[saga(), stories::functions(&[REGISTERED])].concat()).await;
    let system = System::connect().await;
    let (buyer, sku) = stories::shop_with_known_buyer(&system, 1).await;
    let key = new_sku("key");
    let id = order_id(&buyer, &key);
    let origin = with_faults(&system, async || {
        inject(id, "payments-authorize", &["hang"]);
        let place = buyer.request(Method::POST, "/orders").key(&key).json(&order(&sku, 1, DECLINED));
        let answer = place.send().await;
        assert_eq!(answer.status, 202, "{answer:?}");
        stop_at(&system, &id.to_string(), "AuthorizePayment").await;
        let second = format!("{id}-2");
        eventually("the next execution succeeds", async || {
            system.reconcile().await;
            let status = system.execution_status(&second).await;
            (status == Some(ExecutionStatus::Succeeded)).then_some(())
        })
        .await;
        wait_until_settled(&system, &[id]).await;
        answer.trace_context().0
    })
    .await;
    let trace = eventually("the order's rejection is in its trace", async || {
        let trace = system.trace(&origin.trace_id).await?;
        trace.story().contains("publish order.rejected").then_some(trace)
    })
    .await;
    assert!(trace.story().contains("  orders-reconcile: reconcile\n"), "{}", trace.story());
    assert_eq!(system.traces_of(&id.to_string()).await, [origin.trace_id.as_str()]);
}
