//! What the endpoints promise, for `infra/openapi.json`.

use kernel::{
    contract::{Operation, json},
    operation,
    problem::Kind,
};
use schemars::JsonSchema;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::endpoints::{self, Received, View};

/// An event of the provider, of which little is read: see its own documentation.
#[derive(JsonSchema)]
#[schemars(rename = "ProviderEvent")]
#[expect(dead_code, reason = "its schema is all that is wanted of it")]
struct Event {
    /// Names the event: it is the same when it is sent again.
    id: String,
    /// What the event is about.
    data: Data,
    #[schemars(flatten)]
    rest: Map<String, Value>,
}

/// What an event is about.
#[derive(JsonSchema)]
#[schemars(rename = "ProviderEventData")]
#[expect(dead_code, reason = "its schema is all that is wanted of it")]
struct Data {
    /// What has changed; the order's id is in its metadata.
    object: Map<String, Value>,
    #[schemars(flatten)]
    rest: Map<String, Value>,
}

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let id = "0190a6c7-6b1e-7c44-9d27-5f0c1e8a4b10";
    vec![
        operation!("payments-get", "GET", "/orders/{id}/payment", endpoints::get)
            .named("getPayment", "Read an order's payment")
            .about("One's own.")
            .signed_in()
            .path::<Uuid>("id", "The order.", id)
            .answers::<View>(
                200,
                "The payment.",
                json!({
                    "order_id": id, "status": "CAPTURED", "amount": {"amount": 900, "currency": "USD"},
                    "provider": "sandbox", "provider_reference": "pi_sandbox_0190a6c76b1e7c449d275f0c1e8a4b10",
                    "created_at": "2026-05-04T09:32:00.543210Z",
                }),
            ),
        operation!("payments-webhook", "POST", "/payments/webhook", endpoints::webhook)
            .named("receivePaymentEvent", "Tell of a payment")
            .about("For the payment provider. What it says is a hint: the payment itself is asked for.")
            .for_the_provider()
            .refuses(&[Kind::Unreadable, Kind::TooLarge])
            .header::<String>(
                "Stripe-Signature",
                "`t=<seconds since 1970>,v1=<HMAC-SHA256 of the time, a dot and the body, in hexadecimal digits>`, no \
                 more than five minutes old.",
                "t=1777887120,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd",
            )
            .takes_as_sent::<Event>(json!({
                "id": "evt_1", "type": "payment_intent.succeeded",
                "data": {"object": {"id": "pi_1", "metadata": {"order_id": id}}},
            }))
            .answers::<Received>(200, "It is heard.", json!({"received": true})),
    ]
}
