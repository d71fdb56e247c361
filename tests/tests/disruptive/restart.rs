//! The local cloud restarts while orders are running, which ends their executions.

use std::{path::PathBuf, process::Stdio};

use aws_sdk_sfn::types::ExecutionStatus;
use futures::future::join_all;
use system_tests::{
    System, eventually,
    shop::{CARD, assert_invariants, inject, new_sku, order, order_id, usd, wait_until_settled, with_faults},
    turns::{CLOUD, turn},
};
use tokio::process::Command;

const ORDERS: u32 = 20;
/// When the cloud stops, each order hangs in one of these steps, after the step's effect.
const STEPS: [&str; 5] =
    ["inventory-reserve", "payments-authorize", "orders-confirm", "payments-capture", "inventory-commit"];

/// `make down` and `make up`, without a build.
async fn restart() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    for command in ["down", "up"] {
        let status = Command::new(".local/venv/bin/python")
            .args(["-m", "infra.local", command])
            .current_dir(&root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .await
            .expect("infra.local");
        assert!(status.success(), "{command}");
    }
}

#[tokio::test]
async fn twenty_running_orders_settle_even_if_the_local_cloud_restarts() {
    let _turn = turn(&[CLOUD], &[]).await;
    let system = System::connect().await;
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), ORDERS).await;

    with_faults(&system, async || {
        let places = (0..ORDERS).map(async |number| {
            let key = new_sku("key");
            let id = order_id(&buyer, &key);
            inject(id, STEPS[number as usize % STEPS.len()], &["hang"]);
            let body = order(&sku, 1, CARD);
            let placed = buyer.request(reqwest::Method::POST, "/orders").key(&key).json(&body).send().await;
            assert_eq!(placed.id(), id, "{placed:?}");
            id
        });
        let orders = join_all(places).await;
        eventually("all orders hang", async || {
            (orders.iter().all(|id| system_tests::shop::faults_left(*id) == 0)).then_some(())
        })
        .await;
        restart().await;
        let statuses = join_all(orders.iter().map(async |id| system.execution_status(&id.to_string()).await));
        let ended =
            statuses.await.into_iter().filter(|status| *status == Some(ExecutionStatus::Failed)).count();
        assert!(ended > 0, "no execution ended with the cloud");

        eventually("each order whose execution ended has another execution", async || {
            system.reconcile().await;
            let recovered = orders.iter().map(async |id| {
                let first = system.execution_status(&id.to_string()).await;
                let second = system.execution_status(&format!("{id}-2")).await;
                first == Some(ExecutionStatus::Succeeded) || second.is_some()
            });
            join_all(recovered).await.into_iter().all(|recovered| recovered).then_some(())
        })
        .await;
        wait_until_settled(&system, &orders).await;
        assert_eq!(assert_invariants(&system, &orders, &sku, u64::from(ORDERS)).await, ORDERS as usize);
    })
    .await;
}
