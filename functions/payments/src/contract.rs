//! The contract of the endpoints, for `infra/openapi.json`.

use kernel::{
    contract::{Operation, json},
    operation,
    problem::Kind,
};
use schemars::JsonSchema;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::endpoints::{self, Received, View};

/// An event of the payment provider, of which only these fields are read.
#[derive(JsonSchema)]
#[schemars(rename = "ProviderEvent")]
#[expect(dead_code, reason = "only its schema is used")]
struct Event {
    /// The event's id, the same in every delivery.
    id: String,
    /// What the event is about.
    data: Data,
    #[schemars(flatten)]
    rest: Map<String, Value>,
}

/// What an event is about.
#[derive(JsonSchema)]
#[schemars(rename = "ProviderEventData")]
#[expect(dead_code, reason = "only its schema is used")]
struct Data {
    /// The changed object, with the order's id in its metadata.
    object: Map<String, Value>,
    #[schemars(flatten)]
    rest: Map<String, Value>,
}

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let id = "0190a6c7-6b1e-7c44-9d27-5f0c1e8a4b10";
    vec![
        operation!("payments-get", "GET", "/orders/{id}/payment", endpoints::get)
            .named("getPayment", "Get an order's payment")
            .about("Only the buyer's own.")
            .signed_in()
            .path::<Uuid>("id", "The order.", id)
            .answers::<View>(
                200,
                "The payment.",
                json!({
                    "order_id": id, "status": "CAPTURED", "amount": {"amount": 900, "currency": "USD"},
                    "provider": "sandbox", "provider_reference": "sandbox_0190a6c7-6b1e-7c44-9d27-5f0c1e8a4b10",
                    "created_at": "2026-05-04T09:32:00.543210Z",
                }),
            ),
        operation!("payments-webhook", "POST", "/payments/webhook", endpoints::webhook)
            .named("receivePaymentEvent", "Receive a payment provider's webhook")
            .about("For the payment provider. A webhook is only a hint: the payment's status is read from the provider.")
            .for_provider()
            .refuses(&[Kind::Unreadable, Kind::TooLarge])
            .header::<String>(
                "Stripe-Signature",
                "`t=<seconds since 1970>,v1=<HMAC-SHA256 of the time, a dot and the body, in hexadecimal digits>`, no \
                 more than five minutes old.",
                "t=1777887120,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd",
            )
            .takes_raw::<Event>(json!({
                "id": "evt_1", "type": "payment_intent.succeeded",
                "data": {"object": {"id": "pi_1", "metadata": {"order_id": id}}},
            }))
            .answers::<Received>(200, "It was handled, or was handled before.", json!({"received": true})),
    ]
}
