//! The fault matrix: every step of the saga with every fault, and every compensation with every fault on top
//! of each way to get there. Afterwards the invariants hold, for each order by itself and for the stock of all.

use futures::{StreamExt, stream};
use system_tests::{
    System,
    shop::{
        BACK, CARD, DECLINED, FORWARD, assert_invariants, at_rest, faults_left, inject, new_sku, order,
        order_id, saga, usd, with_faults,
    },
    turns::{PROCESSORS, turn},
};

/// What can go wrong in one invocation: see `runtime::serve::faults`.
const KINDS: [&str; 6] = ["before", "after", "hang", "twice", "throttled", "crash"];
/// How often a step before the pivot is invoked before it is given up.
const PATIENCE: usize = 5;
/// How many orders are under way at once.
const WIDTH: usize = 16;

/// What goes wrong with one order.
#[derive(Clone, Debug)]
struct Case {
    payment_method: &'static str,
    /// The faults of a function's next invocations.
    faults: Vec<(&'static str, Vec<&'static str>)>,
    /// How the order has to end, and why.
    ends: (&'static str, Option<&'static str>),
}

const CONFIRMED: (&str, Option<&str>) = ("CONFIRMED", None);
const UNAVAILABLE: (&str, Option<&str>) = ("REJECTED", Some("service_unavailable"));
const REFUSED: (&str, Option<&str>) = ("REJECTED", Some("payment_declined"));

/// Each step forward fails once in each way: the order is confirmed all the same.
fn once() -> Vec<Case> {
    let every = FORWARD.iter().flat_map(|step| KINDS.map(|kind| (*step, vec![kind])));
    every.map(|fault| Case { payment_method: CARD, faults: vec![fault], ends: CONFIRMED }).collect()
}

/// Each way to get to the compensations: nothing, something, or all of it has to be undone.
fn ways_back() -> Vec<Case> {
    let given_up = |step, kind| Case {
        payment_method: CARD,
        faults: vec![(step, vec![kind; PATIENCE])],
        ends: UNAVAILABLE,
    };
    vec![
        Case { payment_method: DECLINED, faults: vec![], ends: REFUSED },
        given_up("orders-validate-user", "before"),
        given_up("inventory-reserve", "throttled"),
        given_up("inventory-reserve", "after"),
        given_up("payments-authorize", "before"),
        given_up("payments-authorize", "after"),
        given_up("payments-authorize", "crash"),
        given_up("orders-confirm", "before"),
    ]
}

/// On each way back, each compensation fails once in each way.
fn twice() -> Vec<Case> {
    let with = |case: &Case, fault| {
        let mut case = case.clone();
        case.faults.push(fault);
        case
    };
    let faults: Vec<_> = BACK.iter().flat_map(|step| KINDS.map(|kind| (*step, vec![kind]))).collect();
    ways_back().iter().flat_map(|case| faults.iter().map(|fault| with(case, fault.clone()))).collect()
}

/// The pivot takes effect and never says so: the decision that was made stands, whoever asks.
fn pivots() -> Vec<Case> {
    let silent = |kind| Case {
        payment_method: CARD,
        faults: vec![("orders-confirm", vec![kind; PATIENCE])],
        ends: CONFIRMED,
    };
    vec![silent("after"), silent("crash")]
}

#[tokio::test]
async fn every_order_settles_as_it_should_whatever_fault_hits_it_and_its_compensations() {
    let _turn = turn(&[PROCESSORS], &saga()).await;
    let system = System::connect().await;
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    let cases = [once(), ways_back(), twice(), pivots()].concat();
    let on_hand = u32::try_from(cases.len()).unwrap();
    admin.stocks(&sku, &usd(450), on_hand).await;

    with_faults(&system, async || {
        let orders: Vec<_> = stream::iter(cases.iter())
            .map(async |case| {
                let key = new_sku("key");
                let id = order_id(&buyer, &key);
                for (function, faults) in &case.faults {
                    inject(id, function, faults);
                }
                let body = order(&sku, 1, case.payment_method);
                assert_eq!(buyer.orders_under(&key, &body).await, id);
                at_rest(&system, &[id]).await;
                let answer = buyer.get(&format!("/orders/{id}")).await;
                let ended = (answer.body["status"].as_str().unwrap(), answer.body["reason"].as_str());
                assert_eq!(ended, case.ends, "{id} {case:?}: {:?}", system.path(&id.to_string()).await);
                assert_eq!(faults_left(id), 0, "every fault was injected: {id} {case:?}");
                id
            })
            .buffer_unordered(WIDTH)
            .collect()
            .await;
        let confirmed = assert_invariants(&system, &orders, &sku, u64::from(on_hand)).await;
        let faults: usize = cases.iter().flat_map(|case| &case.faults).map(|(_, faults)| faults.len()).sum();
        println!("fault matrix: {} orders, {faults} faults, {confirmed} confirmed, 0 lost", cases.len());
    })
    .await;
}
