//! A cancellation that races with the confirmation: one of them wins.

use futures::future::join_all;
use reqwest::Method;
use system_tests::{
    System, eventually,
    shop::{CARD, assert_invariants, new_sku, usd},
    turns::{PROCESSORS, turn},
};

const ORDERS: u32 = 40;

#[tokio::test]
async fn a_cancellation_that_races_with_a_confirmation_either_wins_or_gets_409() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let system = System::connect().await;
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), ORDERS).await;

    let races = (0..ORDERS).map(async |number| {
        let order = buyer.orders(&sku, 1, CARD).await;
        let path = format!("/orders/{order}/cancel");
        // Cancel in the first step to the one after the pivot, so that each side wins some races.
        let steps = 1 + number as usize % 5;
        eventually("the execution has reached the step", async || {
            (system.path(&order.to_string()).await.len() >= steps).then_some(())
        })
        .await;
        let answer = buyer.request(Method::POST, &path).send().await;
        let decided = buyer.wait_until_decided(order).await;
        let won = answer.status == 202;
        if won {
            assert_eq!(answer.body["status"], "CANCELLED", "{answer:?}");
            assert_eq!(decided.body["status"], "CANCELLED");
            assert_eq!(decided.body["reason"], "cancelled_by_user");
        } else {
            answer.is_problem(409, "conflict");
            assert_eq!(decided.body["status"], "CONFIRMED");
        }
        (order, won)
    });
    let results = join_all(races).await;
    let cancelled = results.iter().filter(|(_, won)| *won).count();
    println!("cancellation: {cancelled} of {ORDERS} won");
    assert!(0 < cancelled && cancelled < results.len(), "one side has won every race");

    let orders: Vec<_> = results.iter().map(|(order, _)| *order).collect();
    system_tests::shop::wait_until_settled(&system, &orders).await;
    let confirmed = assert_invariants(&system, &orders, &sku, u64::from(ORDERS)).await;
    assert_eq!(confirmed + cancelled, results.len());
}
