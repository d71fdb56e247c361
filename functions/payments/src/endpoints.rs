//! The HTTP endpoints.

use kernel::{
    clock::Timestamp,
    money::Money,
    problem::{Kind, Problem},
};
use runtime::serve::{
    http::{Reply, Request},
    task::StepError,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    cashier::Cashier,
    payment::{Command, Payment, PaymentRecord, ProviderName, Status},
    store::Payments,
    webhook::{self, WebhookEvent},
};

/// A payment as its buyer sees it.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "Payment"))]
pub(crate) struct View {
    /// The order.
    order_id: Uuid,
    /// Its status.
    status: Status,
    /// The amount.
    amount: Money,
    /// The payment provider.
    provider: ProviderName,
    /// The provider's id of the payment; null if the provider declined before it gave one.
    provider_reference: Option<String>,
    /// When the payment was created.
    created_at: Timestamp,
}

impl From<Payment> for View {
    fn from(payment: Payment) -> Self {
        let Payment { order_id, status, amount, provider, provider_reference, created_at, .. } = payment;
        Self { order_id, status, amount, provider, provider_reference, created_at }
    }
}

/// The answer to a webhook. Its sender reads only the status.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "WebhookReceived"))]
pub(crate) struct Received {
    /// Always true.
    received: bool,
}

/// `GET /orders/{id}/payment`, by its buyer.
pub async fn get(payments: &Payments, request: &Request) -> Result<Reply, Problem> {
    let (caller, order_id) = (request.caller()?.id, request.id("id")?);
    match payments.find(order_id).await? {
        // The caller must not learn that someone else's payment exists.
        PaymentRecord::Payment(payment) if payment.buyer_id == caller => Reply::ok(&View::from(payment)),
        _ => {
            let detail =
                "you have no order with this id that has a payment; a pending order may not have one yet";
            Err(Problem::new(Kind::NotFound, detail))
        }
    }
}

/// `POST /payments/webhook`, by the provider. A webhook is only a hint: the payment's status is read from the provider.
pub async fn webhook(cashier: &Cashier, request: &Request) -> Result<Reply, Problem> {
    let body = request.bytes()?;
    let signature = request.headers().get(webhook::SIGNATURE).and_then(|value| value.to_str().ok());
    let now = Timestamp::now();
    if !webhook::is_genuine(cashier.provider.webhook_secret(), signature, body, now) {
        let detail = "the signature is missing or wrong, or more than five minutes old";
        return Err(Problem::unauthenticated(webhook::CHALLENGE, detail));
    }
    let event = WebhookEvent::read(body)?;
    if cashier.payments.is_processed(&event.event_id).await? {
        return received();
    }
    let record = match event.order_id {
        Some(order_id) => cashier.carry_out(order_id, &Command::Synchronize).await.map_err(failed)?,
        None => PaymentRecord::Absent,
    };
    if !matches!(record, PaymentRecord::Payment(_)) {
        tracing::info!(event_id = event.event_id, "the webhook is not about a known payment");
    }
    // Recorded last, so that a webhook whose handling was interrupted is handled when it is sent again.
    cashier.payments.mark_processed(&event.event_id, now).await?;
    received()
}

fn received() -> Result<Reply, Problem> {
    Reply::ok(&Received { received: true })
}

/// The provider sends a webhook again unless the answer is a success.
fn failed(error: StepError) -> Problem {
    match error {
        StepError::Refused(refusal) => Problem::internal(refusal.name()),
        StepError::Unavailable(cause) | StepError::Retryable(cause) => Problem::unavailable(cause),
    }
}
