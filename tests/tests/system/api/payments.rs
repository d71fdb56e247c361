//! `/orders/{id}/payment` and `/payments/webhook`.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Person, System,
    shop::{CARD, DECLINED, new_sku, usd, wait_until_settled},
};
use uuid::Uuid;

/// A whole payment at the sandbox, the built-in provider.
fn payment(order: Uuid, status: &str, amount: &Value) -> Value {
    json!({
        "order_id": order, "status": status, "amount": amount, "provider": "sandbox",
        "provider_reference": format!("sandbox_{order}"), "created_at": "<time>",
    })
}

/// Places an order of three items at 4.50, and waits until it is settled.
async fn settled_order(system: &System, buyer: &Person, payment_method: &str, on_hand: u32) -> Uuid {
    let (admin, sku) = (system.admin().await, new_sku("tea"));
    admin.stocks(&sku, &usd(450), on_hand).await;
    let order = buyer.orders(&sku, 3, payment_method).await;
    wait_until_settled(system, &[order]).await;
    order
}

/// Holds the money for an order of this buyer that exists nowhere else.
async fn authorize(buyer: &Person, order: Uuid, amount: &Value) -> Result<Value, String> {
    let input = json!({"order_id": order, "buyer_id": buyer.id, "amount": amount, "payment_method": CARD,
                       "traceparent": null});
    buyer.system.step("payments-authorize", &input).await
}

async fn step(buyer: &Person, function: &str, order: Uuid) -> Result<Value, String> {
    let input = json!({"order_id": order, "buyer_id": buyer.id, "traceparent": null});
    buyer.system.step(function, &input).await
}

#[tokio::test]
async fn the_payment_of_a_confirmed_order_is_captured() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let order = settled_order(&system, &buyer, CARD, 5).await;
    buyer.get(&format!("/orders/{order}/payment")).await.is(200, &payment(order, "CAPTURED", &usd(1350)));
}

#[tokio::test]
async fn a_declined_payment_is_shown_as_declined() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let order = settled_order(&system, &buyer, DECLINED, 5).await;
    buyer.get(&format!("/orders/{order}/payment")).await.is(200, &payment(order, "DECLINED", &usd(1350)));
}

#[tokio::test]
async fn an_order_that_is_rejected_before_its_payment_has_none() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let order = settled_order(&system, &buyer, CARD, 1).await;
    assert_eq!(buyer.get(&format!("/orders/{order}")).await.body["reason"], "out_of_stock");
    buyer.get(&format!("/orders/{order}/payment")).await.is_problem(404, "not-found");
    buyer.get(&format!("/orders/{}/payment", Uuid::now_v7())).await.is_problem(404, "not-found");
    buyer.get("/orders/nonsense/payment").await.is_problem(404, "not-found");
}

#[tokio::test]
async fn another_users_payment_is_not_found() {
    let system = System::connect().await;
    let (buyer, other) = tokio::join!(system.registered("Ara"), system.registered("Bada"));
    let order = settled_order(&system, &buyer, CARD, 5).await;
    let path = format!("/orders/{order}/payment");
    other.get(&path).await.is_problem(404, "not-found");
    assert_eq!(system.get(&path).await.status, 401);
}

#[tokio::test]
async fn money_is_held_then_captured_then_refunded_each_once() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let order = Uuid::now_v7();
    let path = format!("/orders/{order}/payment");
    for _ in 0..2 {
        assert_eq!(authorize(&buyer, order, &usd(1)).await, Ok(json!({})));
        buyer.get(&path).await.is(200, &payment(order, "AUTHORIZED", &usd(1)));
    }
    for (function, status) in [("payments-capture", "CAPTURED"), ("payments-cancel", "REFUNDED")] {
        for _ in 0..2 {
            assert_eq!(step(&buyer, function, order).await, Ok(json!({})));
            buyer.get(&path).await.is(200, &payment(order, status, &usd(1)));
        }
    }
    assert_eq!(authorize(&buyer, order, &usd(1)).await, Err("Order.Cancelled".to_owned()));
    assert_eq!(step(&buyer, "payments-capture", order).await, Err("Transient".to_owned()));
    buyer.get(&path).await.is(200, &payment(order, "REFUNDED", &usd(1)));
}

#[tokio::test]
async fn money_that_was_released_can_no_longer_be_captured() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let order = Uuid::now_v7();
    authorize(&buyer, order, &usd(1)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
    }
    assert_eq!(step(&buyer, "payments-capture", order).await, Err("Transient".to_owned()));
    assert_eq!(authorize(&buyer, order, &usd(1)).await, Err("Order.Cancelled".to_owned()));
    let path = format!("/orders/{order}/payment");
    buyer.get(&path).await.is(200, &payment(order, "CANCELLED", &usd(1)));
}

#[tokio::test]
async fn a_payment_that_is_cancelled_before_it_begins_never_begins() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let order = Uuid::now_v7();
    assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
    assert_eq!(authorize(&buyer, order, &usd(1)).await, Err("Order.Cancelled".to_owned()));
    assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
    buyer.get(&format!("/orders/{order}/payment")).await.is_problem(404, "not-found");
    assert_eq!(system.item("payments", &format!("sandbox#{order}"), "intent").await, None);
}

#[tokio::test]
async fn an_unsigned_or_forged_webhook_changes_nothing() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let order = settled_order(&system, &buyer, CARD, 5).await;
    let path = format!("/orders/{order}/payment");
    let before = buyer.get(&path).await;

    let object = json!({"id": format!("sandbox_{order}"), "metadata": {"order_id": order}});
    let event = json!({"id": new_sku("evt"), "type": "charge.refunded", "data": {"object": object}});
    let webhook = || system.request(Method::POST, "/payments/webhook").json(&event);
    webhook().send().await.is_problem(401, "unauthenticated");
    let now = kernel::clock::Timestamp::now().as_second();
    let forged = "0".repeat(64);
    for signature in ["", "nonsense", &format!("t={now},v1={forged}"), &format!("t={now},v1=")] {
        let answer = webhook().header("stripe-signature", signature).send().await;
        answer.is_problem(401, "unauthenticated");
    }
    // A user's access token does not replace the provider's signature.
    let token = format!("Bearer {}", buyer.token);
    webhook().header("authorization", &token).send().await.is_problem(401, "unauthenticated");
    buyer.get(&path).await.is(200, &before.body);
    let handled = format!("webhook#{}", event["id"].as_str().unwrap());
    assert_eq!(system.item("payments", &handled, "webhook").await, None);
}
