//! The fault matrix: every step of the saga fails in every way, and so does every compensation, on every path that leads to
//! compensations. Afterwards the invariants hold for each order and for the stock.

use futures::{StreamExt, stream};
use system_tests::{
    System,
    faults::retries::Retries,
    shop::{
        CARD, COMPENSATIONS, DECLINED, STEPS, assert_invariants, faults_left, inject, new_sku, order,
        order_id, saga, usd, wait_until_settled, with_faults,
    },
    turns::{PROCESSORS, turn},
};

/// The faults that can be injected into an invocation: see `runtime::serve::faults`.
const KINDS: [&str; 6] = ["before", "after", "hang", "twice", "throttled", "crash"];
/// Orders that run at the same time.
const CONCURRENCY: usize = 16;

/// One order, and what goes wrong with it.
#[derive(Clone, Debug)]
struct Case {
    payment_method: &'static str,
    /// The faults of a function's next invocations.
    faults: Vec<(&'static str, Vec<&'static str>)>,
    /// The expected status and reason of the settled order.
    ends: (&'static str, Option<&'static str>),
}

const CONFIRMED: (&str, Option<&str>) = ("CONFIRMED", None);
const UNAVAILABLE: (&str, Option<&str>) = ("REJECTED", Some("service_unavailable"));
const DECLINED_CARD: (&str, Option<&str>) = ("REJECTED", Some("payment_declined"));

/// Each forward step fails once in each way, and the order is still confirmed.
fn failing_steps() -> Vec<Case> {
    let every = STEPS.iter().flat_map(|step| KINDS.map(|kind| (*step, vec![kind])));
    every.map(|fault| Case { payment_method: CARD, faults: vec![fault], ends: CONFIRMED }).collect()
}

/// The same fault in every invocation of a step until the saga gives up.
fn always(step: &'static str, kind: &'static str) -> (&'static str, Vec<&'static str>) {
    (step, vec![kind; Retries::of(step, "Transient").invocations])
}

/// Each path that leads to the compensations: nothing, something or everything has to be undone.
fn rejections() -> Vec<Case> {
    let gives_up_at =
        |step, kind| Case { payment_method: CARD, faults: vec![always(step, kind)], ends: UNAVAILABLE };
    vec![
        Case { payment_method: DECLINED, faults: vec![], ends: DECLINED_CARD },
        gives_up_at("orders-validate-user", "before"),
        gives_up_at("inventory-reserve", "throttled"),
        gives_up_at("inventory-reserve", "after"),
        gives_up_at("payments-authorize", "before"),
        gives_up_at("payments-authorize", "after"),
        gives_up_at("payments-authorize", "crash"),
        gives_up_at("orders-confirm", "before"),
    ]
}

/// On each path that leads to the compensations, each compensation fails once in each way.
fn failing_compensations() -> Vec<Case> {
    let with = |case: &Case, fault| {
        let mut case = case.clone();
        case.faults.push(fault);
        case
    };
    let faults: Vec<_> =
        COMPENSATIONS.iter().flat_map(|step| KINDS.map(|kind| (*step, vec![kind]))).collect();
    rejections().iter().flat_map(|case| faults.iter().map(|fault| with(case, fault.clone()))).collect()
}

/// The pivot takes effect, but all its answers are lost: the order stays confirmed.
fn lost_pivots() -> Vec<Case> {
    let lost =
        |kind| Case { payment_method: CARD, faults: vec![always("orders-confirm", kind)], ends: CONFIRMED };
    vec![lost("after"), lost("crash")]
}

#[tokio::test]
async fn every_order_settles_as_expected_whatever_fault_hits_its_steps_and_compensations() {
    let _turn = turn(&[PROCESSORS], &saga()).await;
    let system = System::connect().await;
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    let cases = [failing_steps(), rejections(), failing_compensations(), lost_pivots()].concat();
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
                assert_eq!(buyer.orders_with_key(&key, &body).await, id);
                wait_until_settled(&system, &[id]).await;
                let answer = buyer.get(&format!("/orders/{id}")).await;
                let ended = (answer.body["status"].as_str().unwrap(), answer.body["reason"].as_str());
                assert_eq!(ended, case.ends, "{id} {case:?}: {:?}", system.path(&id.to_string()).await);
                assert_eq!(faults_left(id), 0, "not every fault was injected: {id} {case:?}");
                id
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let confirmed = assert_invariants(&system, &orders, &sku, u64::from(on_hand)).await;
        let faults: usize = cases.iter().flat_map(|case| &case.faults).map(|(_, faults)| faults.len()).sum();
        println!("fault matrix: {} orders, {faults} faults, {confirmed} confirmed, 0 lost", cases.len());
    })
    .await;
}
