//! Many orders at once, with random failures.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use system_tests::{
    System,
    shop::{
        CARD, COMPENSATIONS, DECLINED, STEPS, assert_invariants, inject, new_sku, order, order_id, saga, usd,
        wait_until_settled, with_faults,
    },
    turns::{PROCESSORS, turn},
};
use uuid::Uuid;

const ORDERS: usize = 200;
const CLIENTS: usize = 20;
/// Fewer items than orders, so that some orders are out of stock.
const ON_HAND: u32 = 150;
/// The faults. A step that hangs is left to the fault matrix, because here it would only measure the time-out.
const KINDS: [&str; 5] = ["before", "after", "twice", "throttled", "crash"];

#[tokio::test]
async fn two_hundred_orders_from_twenty_clients_settle_despite_random_failures() {
    let _turn = turn(&[PROCESSORS], &saga()).await;
    let system = System::connect().await;
    let admin = system.admin().await;
    let buyers = stream::iter(0..CLIENTS).map(async |_| system.registered("Ara").await);
    let buyers: Vec<_> = buyers.buffer_unordered(4).collect().await;
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), ON_HAND).await;

    let steps = [&STEPS[..], &COMPENSATIONS].concat();
    with_faults(&system, async || {
        let start = Instant::now();
        // Each client places one order after another.
        let clients = buyers.iter().enumerate().map(async |(client, buyer)| {
            let mut decided: Vec<(Uuid, Duration)> = Vec::new();
            for number in 0..ORDERS / CLIENTS {
                // The seed makes each run the same.
                let mut random = fastrand::Rng::with_seed((client * ORDERS + number) as u64);
                let key = new_sku("key");
                let id = order_id(buyer, &key);
                // Half of the orders get one or two faults.
                for _ in 0..random.usize(..4).saturating_sub(1) {
                    inject(id, steps[random.usize(..steps.len())], &[KINDS[random.usize(..KINDS.len())]]);
                }
                let card = if random.usize(..10) == 0 { DECLINED } else { CARD };
                let placed_at = Instant::now();
                let body = order(&sku, 1, card);
                assert_eq!(buyer.orders_with_key(&key, &body).await, id);
                buyer.wait_until_decided(id).await;
                decided.push((id, placed_at.elapsed()));
            }
            decided
        });
        let decided = futures::future::join_all(clients).await.concat();
        let elapsed = start.elapsed();

        let orders: Vec<Uuid> = decided.iter().map(|(id, _)| *id).collect();
        wait_until_settled(&system, &orders).await;
        let confirmed = assert_invariants(&system, &orders, &sku, u64::from(ON_HAND)).await;
        let mut times: Vec<Duration> = decided.into_iter().map(|(_, time)| time).collect();
        times.sort_unstable();
        println!(
            "load: {} orders from {CLIENTS} clients, {confirmed} confirmed, {:.1} orders a second, \
             placed to decided p50 {:.2} s, p99 {:.2} s",
            orders.len(),
            f64::from(u32::try_from(ORDERS).unwrap()) / elapsed.as_secs_f64(),
            times[times.len() / 2].as_secs_f64(),
            times[times.len() * 99 / 100].as_secs_f64(),
        );
    })
    .await;
}
