//! `/orders`.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Answer, Person, System, assert_json, eventually,
    shop::{
        CARD, DECLINED, OrderRecords, assert_invariants, new_sku, order, shop, shop_with_admin, usd,
        wait_until_settled,
    },
};
use uuid::Uuid;

use super::order_events::event;

/// The largest total that every JSON parser reads exactly: 2^53 − 1.
const LARGEST_TOTAL: i64 = 9_007_199_254_740_991;

/// An order of one item without a price, as its buyer sees it.
fn view(sku: &str, quantity: u32, status: &str, version: u64) -> Value {
    json!({
        "id": "<uuid>", "status": status, "items": [{"sku": sku, "quantity": quantity, "unit_price": null}],
        "total": null, "created_at": "<time>", "updated_at": "<time>", "version": version,
    })
}

/// The same order with prices.
fn priced(mut view: Value, unit_price: &Value, total: &Value) -> Value {
    view["items"][0]["unit_price"] = unit_price.clone();
    view["total"] = total.clone();
    view
}

/// The same order with one more item.
fn with_item(mut view: Value, sku: &str, quantity: u32) -> Value {
    let line = json!({"sku": sku, "quantity": quantity, "unit_price": null});
    view["items"].as_array_mut().unwrap().push(line);
    view
}

/// The same order with the reason why it was not confirmed.
fn with_reason(mut view: Value, reason: &str) -> Value {
    view["reason"] = json!(reason);
    view
}

/// Places an order and waits until it is decided.
async fn place_and_wait(buyer: &Person, body: &Value) -> Answer {
    let answer = buyer.post("/orders", body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    buyer.wait_until_decided(answer.id()).await
}

/// The statuses of a settled order, of its reservation, its payment, and its payment at the provider.
async fn statuses(system: &System, order: Uuid) -> [String; 4] {
    wait_until_settled(system, &[order]).await;
    let OrderRecords { order, reservation, payment, provider } = OrderRecords::read(system, order).await;
    [order, reservation, payment, provider]
}

#[tokio::test]
async fn placing_an_order_returns_it_whole_and_unpriced() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let answer = buyer.post("/orders", &order(&sku, 2, CARD)).await;
    answer.is(202, &view(&sku, 2, "PENDING", 1));
    assert_eq!(answer.id().get_version_num(), 7);
    assert_eq!(answer.body["created_at"], answer.body["updated_at"]);
    assert_eq!(answer.location(), system.url(&format!("/orders/{}", answer.id())));
    answer.is_version(1);
    buyer.wait_until_decided(answer.id()).await;
}

#[tokio::test]
async fn a_successful_order_is_confirmed_at_the_inventorys_prices() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let accepted = buyer.post("/orders", &order(&sku, 2, CARD)).await;
    let confirmed = buyer.wait_until_decided(accepted.id()).await;
    confirmed.is(200, &priced(view(&sku, 2, "CONFIRMED", 2), &usd(450), &usd(900)));
    confirmed.is_version(2);
    assert_eq!(confirmed.body["id"], accepted.body["id"]);
    assert_eq!(confirmed.body["created_at"], accepted.body["created_at"]);
    assert!(confirmed.body["updated_at"].as_str() > accepted.body["updated_at"].as_str());

    let id = accepted.id();
    assert_eq!(statuses(&system, id).await, ["CONFIRMED", "COMMITTED", "CAPTURED", "CAPTURED"]);
    assert_eq!(assert_invariants(&system, &[id], &sku, 5).await, 1);
}

#[tokio::test]
async fn an_order_with_the_right_expected_total_is_confirmed() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let mut body = order(&sku, 3, CARD);
    body["expected_total"] = usd(1350);
    let confirmed = place_and_wait(&buyer, &body).await;
    confirmed.is(200, &priced(view(&sku, 3, "CONFIRMED", 2), &usd(450), &usd(1350)));
}

#[tokio::test]
async fn an_order_can_have_fifty_items() {
    let system = System::connect().await;
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let skus: Vec<String> = (0..50).map(|number| new_sku(&format!("thing{number:02}"))).collect();
    let prices: Vec<Value> = (1..=50).map(|number| usd(number * 10)).collect();
    join_all(skus.iter().zip(&prices).map(|(sku, price)| admin.stocks(sku, price, 2))).await;
    let items: Vec<Value> = skus.iter().map(|sku| json!({"sku": sku, "quantity": 2})).collect();
    let confirmed = place_and_wait(&buyer, &json!({"items": items, "payment_method": CARD})).await;

    let lines: Vec<Value> = skus
        .iter()
        .zip(&prices)
        .map(|(sku, price)| json!({"sku": sku, "quantity": 2, "unit_price": price}))
        .collect();
    let mut expected = priced(view("", 0, "CONFIRMED", 2), &Value::Null, &usd(50 * 51 * 10));
    expected["items"] = json!(lines);
    confirmed.is(200, &expected);
    wait_until_settled(&system, &[confirmed.id()]).await;
    for sku in &skus {
        assert_invariants(&system, &[confirmed.id()], sku, 2).await;
    }
}

#[tokio::test]
async fn only_its_buyer_can_find_an_order() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let other = system.registered("Bada").await;
    let decided = place_and_wait(&buyer, &order(&sku, 1, CARD)).await;
    let path = format!("/orders/{}", decided.id());
    for (person, path) in [
        (&other, path.clone()),
        (&buyer, format!("/orders/{}", Uuid::now_v7())),
        (&buyer, "/orders/nonsense".to_owned()),
    ] {
        person.get(&path).await.is_problem(404, "not-found");
        person.post(&format!("{path}/cancel"), &json!({})).await.is_problem(404, "not-found");
        person.get(&format!("{path}/payment")).await.is_problem(404, "not-found");
    }
    buyer.get(&path).await.is(200, &decided.body);
    let none = json!({"items": [], "next_cursor": null});
    other.get("/orders").await.is(200, &none);
}

#[tokio::test]
async fn orders_are_listed_newest_first_and_whole() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 9).await;
    let mut orders = Vec::new();
    for payment_method in [CARD, DECLINED, CARD] {
        orders.insert(0, place_and_wait(&buyer, &order(&sku, 1, payment_method)).await.body);
    }
    let listed = eventually("all are listed", async || {
        let listed = buyer.get("/orders").await;
        (listed.body["items"].as_array().is_some_and(|items| items.len() == 3)).then_some(listed)
    })
    .await;
    listed.is(200, &json!({"items": orders, "next_cursor": null}));
}

#[tokio::test]
async fn a_user_without_a_profile_cannot_order() {
    let system = System::connect().await;
    let unregistered = system.sign_up().await;
    unregistered.post("/orders", &order("tea", 1, CARD)).await.is_problem(403, "profile-required");
    unregistered.get("/orders").await.is(200, &json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn an_order_whose_buyer_has_no_profile_in_users_is_rejected() {
    let system = System::connect().await;
    let (_, sku) = shop(&system, 5).await;
    let unregistered = system.sign_up().await;
    // The orders service has a copy of the user from this event, but users, which the saga asks, has no such user.
    let created = event("user.created", unregistered.id, 1, &json!({"id": unregistered.id, "name": "Ghost"}));
    system.publish(&created).await;
    system.wait_until_consumed("orders-on-user", &created, 1).await;
    let rejected = place_and_wait(&unregistered, &order(&sku, 1, CARD)).await;
    rejected.is(200, &with_reason(view(&sku, 1, "REJECTED", 3), "user_not_found"));
    assert_eq!(statuses(&system, rejected.id()).await, ["REJECTED", "RELEASED", "TOMBSTONE", "none"]);
    assert_eq!(assert_invariants(&system, &[rejected.id()], &sku, 5).await, 0);
}

#[tokio::test]
async fn a_deleted_users_orders_can_be_read_but_not_changed() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    buyer.wait_for_welcome().await;
    let confirmed = place_and_wait(&buyer, &order(&sku, 1, CARD)).await;
    assert_eq!(buyer.delete("/users/me").await.status, 202);
    let again = async || buyer.post("/orders", &order(&sku, 1, CARD)).await;
    eventually("orders of the buyer are refused", async || (again().await.status == 403).then_some(())).await;
    again().await.is_problem(403, "profile-deleted");
    let path = format!("/orders/{}", confirmed.id());
    buyer.post(&format!("{path}/cancel"), &json!({})).await.is_problem(403, "profile-deleted");
    assert_eq!(buyer.get(&path).await.body["status"], "CONFIRMED");
}

#[tokio::test]
async fn an_invalid_order_gets_an_error_per_field_and_is_not_stored() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let with = |items: Value| json!({"items": items, "payment_method": CARD});
    let item = |sku: &str, quantity: Value| json!({"sku": sku, "quantity": quantity});
    let expecting = |total: Value| {
        let mut body = order("tea", 1, CARD);
        body["expected_total"] = total;
        body
    };
    let many = (0..51).map(|number| item(&number.to_string(), json!(1))).collect();
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({}), &["/items", "/payment_method"]),
        (with(json!([])), &["/items"]),
        (with(many), &["/items"]),
        (with(json!({"sku": "tea", "quantity": 1})), &["/items"]),
        (with(json!([item("a", json!(1)), item("b", json!(1)), item("a", json!(2))])), &["/items/2/sku"]),
        (with(json!([item("a", json!(0))])), &["/items/0/quantity"]),
        (with(json!([item("a", json!(-1))])), &["/items/0/quantity"]),
        (with(json!([item("a", json!(1001))])), &["/items/0/quantity"]),
        (with(json!([item("a", json!(1.5))])), &["/items/0/quantity"]),
        (with(json!([item("a", json!("1"))])), &["/items/0/quantity"]),
        (with(json!([item("green tea", json!(1))])), &["/items/0/sku"]),
        (with(json!([item(&"x".repeat(65), json!(1))])), &["/items/0/sku"]),
        (with(json!([{"sku": "a", "quantity": 1, "unit_price": usd(1)}])), &["/items/0/unit_price"]),
        (order("a", 1, "4242424242424242"), &["/payment_method"]),
        (order("a", 1, "4242 4242 4242 4242"), &["/payment_method"]),
        (order("a", 1, "pm_"), &["/payment_method"]),
        (expecting(json!({"amount": 1, "currency": "XYZ"})), &["/expected_total/currency"]),
        (expecting(json!({"amount": 1, "currency": "usd"})), &["/expected_total/currency"]),
        (expecting(usd(0)), &["/expected_total/amount"]),
        (expecting(usd(LARGEST_TOTAL + 1)), &["/expected_total/amount"]),
        (
            expecting(json!({"amount": 9_223_372_036_854_775_808_u64, "currency": "USD"})),
            &["/expected_total/amount"],
        ),
        (expecting(json!({"amount": 1, "currency": "USD", "cents": 0})), &["/expected_total/cents"]),
        (
            json!({"items": [item("a b", json!(0)), 7], "payment_method": 4, "status": "CONFIRMED",
                   "buyer_id": Uuid::now_v7()}),
            &["/items/0/sku", "/items/0/quantity", "/items/1", "/payment_method", "/buyer_id", "/status"],
        ),
    ];
    for (body, pointers) in cases {
        buyer.post("/orders", &body).await.is_invalid(pointers);
    }
    buyer.get("/orders").await.is(200, &json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn an_order_with_an_unknown_sku_is_rejected() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let unknown = new_sku("unknown");
    let items = json!([{"sku": sku, "quantity": 1}, {"sku": unknown, "quantity": 1}]);
    let rejected = place_and_wait(&buyer, &json!({"items": items, "payment_method": CARD})).await;
    let expected = with_item(view(&sku, 1, "REJECTED", 3), &unknown, 1);
    rejected.is(200, &with_reason(expected, "unknown_sku"));
    assert_eq!(statuses(&system, rejected.id()).await, ["REJECTED", "RELEASED", "TOMBSTONE", "none"]);
    assert_eq!(assert_invariants(&system, &[rejected.id()], &sku, 5).await, 0);
}

#[tokio::test]
async fn an_order_that_exceeds_the_stock_is_rejected_and_reserves_nothing() {
    let system = System::connect().await;
    let (admin, buyer, sku) = shop_with_admin(&system, 5).await;
    let scarce = new_sku("scarce");
    admin.stocks(&scarce, &usd(100), 1).await;
    let items = json!([{"sku": sku, "quantity": 1}, {"sku": scarce, "quantity": 2}]);
    let rejected = place_and_wait(&buyer, &json!({"items": items, "payment_method": CARD})).await;
    let expected = with_item(view(&sku, 1, "REJECTED", 3), &scarce, 2);
    rejected.is(200, &with_reason(expected, "out_of_stock"));
    assert_eq!(statuses(&system, rejected.id()).await, ["REJECTED", "RELEASED", "TOMBSTONE", "none"]);
    assert_invariants(&system, &[rejected.id()], &sku, 5).await;
    assert_invariants(&system, &[rejected.id()], &scarce, 1).await;
}

#[tokio::test]
async fn an_order_with_a_wrong_expected_total_is_rejected_as_price_changed() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    for other in [usd(899), usd(901), json!({"amount": 900, "currency": "EUR"})] {
        let mut body = order(&sku, 2, CARD);
        body["expected_total"] = other;
        let rejected = place_and_wait(&buyer, &body).await;
        rejected.is(200, &with_reason(view(&sku, 2, "REJECTED", 3), "price_changed"));
        assert_eq!(statuses(&system, rejected.id()).await, ["REJECTED", "RELEASED", "TOMBSTONE", "none"]);
        assert_eq!(assert_invariants(&system, &[rejected.id()], &sku, 5).await, 0);
    }
}

#[tokio::test]
async fn an_order_in_two_currencies_is_rejected() {
    let system = System::connect().await;
    let (admin, buyer, sku) = shop_with_admin(&system, 5).await;
    let korean = new_sku("korean");
    admin.stocks(&korean, &json!({"amount": 4500, "currency": "KRW"}), 5).await;
    let items = json!([{"sku": sku, "quantity": 1}, {"sku": korean, "quantity": 1}]);
    let rejected = place_and_wait(&buyer, &json!({"items": items, "payment_method": CARD})).await;
    let expected = with_item(view(&sku, 1, "REJECTED", 3), &korean, 1);
    rejected.is(200, &with_reason(expected, "mixed_currencies"));
    assert_eq!(statuses(&system, rejected.id()).await, ["REJECTED", "RELEASED", "TOMBSTONE", "none"]);
    assert_invariants(&system, &[rejected.id()], &sku, 5).await;
    assert_invariants(&system, &[rejected.id()], &korean, 5).await;
}

#[tokio::test]
async fn a_total_that_json_cannot_carry_exactly_is_rejected_as_too_large() {
    let system = System::connect().await;
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let (palace, tea) = (new_sku("palace"), new_sku("tea"));
    admin.stocks(&palace, &usd(LARGEST_TOTAL), 2000).await;
    admin.stocks(&tea, &usd(1), 5).await;
    // Just above the largest total, and too large for 64 bits.
    let a_little = json!([{"sku": palace, "quantity": 1}, {"sku": tea, "quantity": 1}]);
    let expected = with_item(view(&palace, 1, "REJECTED", 3), &tea, 1);
    let rejected = place_and_wait(&buyer, &json!({"items": a_little, "payment_method": CARD})).await;
    rejected.is(200, &with_reason(expected, "total_too_large"));
    let far = place_and_wait(&buyer, &order(&palace, 1000, CARD)).await;
    far.is(200, &with_reason(view(&palace, 1000, "REJECTED", 3), "total_too_large"));
    for order in [rejected.id(), far.id()] {
        assert_eq!(statuses(&system, order).await, ["REJECTED", "RELEASED", "TOMBSTONE", "none"]);
        assert_eq!(assert_invariants(&system, &[order], &palace, 2000).await, 0);
    }

    let largest = usd(LARGEST_TOTAL);
    let mut body = order(&palace, 1, CARD);
    body["expected_total"] = largest.clone();
    let confirmed = place_and_wait(&buyer, &body).await;
    confirmed.is(200, &priced(view(&palace, 1, "CONFIRMED", 2), &largest, &largest));
    let payment = buyer.get(&format!("/orders/{}/payment", confirmed.id())).await;
    assert_eq!(payment.body["amount"], largest);
}

#[tokio::test]
async fn an_order_with_a_declined_card_is_compensated() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    for payment_method in [DECLINED, "pm_card_chargeDeclinedInsufficientFunds", "pm_card_of_nobody"] {
        let rejected = place_and_wait(&buyer, &order(&sku, 2, payment_method)).await;
        let expected = with_reason(view(&sku, 2, "REJECTED", 3), "payment_declined");
        rejected.is(200, &priced(expected, &usd(450), &usd(900)));
        let undone = ["REJECTED", "RELEASED", "DECLINED", "CANCELLED"];
        assert_eq!(statuses(&system, rejected.id()).await, undone, "{payment_method}");
        assert_eq!(assert_invariants(&system, &[rejected.id()], &sku, 5).await, 0);
    }
}

#[tokio::test]
async fn a_decided_order_cannot_be_cancelled() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    for (payment_method, status) in [(CARD, "CONFIRMED"), (DECLINED, "REJECTED")] {
        let decided = place_and_wait(&buyer, &order(&sku, 1, payment_method)).await;
        assert_eq!(decided.body["status"], status);
        let path = format!("/orders/{}", decided.id());
        buyer.post(&format!("{path}/cancel"), &json!({})).await.is_problem(409, "conflict");
        assert_eq!(buyer.get(&path).await.body["status"], status);
    }
}

#[tokio::test]
async fn a_cancellation_either_wins_and_everything_is_undone_or_the_order_is_confirmed() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1000).await;
    let mut orders = Vec::new();
    // An immediate cancellation usually wins, but can lose on a slow machine.
    let cancelled = loop {
        let order = buyer.orders(&sku, 1, CARD).await;
        orders.push(order);
        let answer = buyer.request(Method::POST, &format!("/orders/{order}/cancel")).send().await;
        if answer.status == 202 {
            break answer;
        }
        answer.is_problem(409, "conflict");
        assert_eq!(buyer.wait_until_decided(order).await.body["status"], "CONFIRMED");
        assert!(orders.len() < 50, "a cancellation never wins");
    };
    let expected = with_reason(view(&sku, 1, "CANCELLED", 2), "cancelled_by_user");
    cancelled.is(202, &expected);
    let id = cancelled.id();
    assert_eq!(cancelled.location(), system.url(&format!("/orders/{id}")));
    cancelled.is_version(2);

    let again = async || buyer.request(Method::POST, &format!("/orders/{id}/cancel")).send().await;
    let status = |answer: &Answer| (answer.status.as_u16(), answer.body["status"].clone());
    assert_eq!(status(&again().await), (202, json!("CANCELLED")));
    wait_until_settled(&system, &orders).await;
    // The third version says that everything has been undone.
    let settled = buyer.get(&format!("/orders/{id}")).await;
    assert_json(&settled.body, &with_reason(view(&sku, 1, "CANCELLED", 3), "cancelled_by_user"));
    again().await.is(202, &settled.body);
    let confirmed = assert_invariants(&system, &orders, &sku, 1000).await;
    assert_eq!(confirmed, orders.len() - 1);
}
