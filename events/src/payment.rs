//! Events of orders' payments.

use kernel::{event::Payload, money::Money};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happens to an order's payment. The subject is the order's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub enum PaymentEvent {
    /// The money is held on the buyer's card.
    #[serde(rename = "payment.authorized")]
    Authorized(PaymentAmount),
    /// The money was captured.
    #[serde(rename = "payment.captured")]
    Captured(PaymentAmount),
    /// The hold was released, or was never made.
    #[serde(rename = "payment.cancelled")]
    Cancelled(PaymentAmount),
    /// The captured money was refunded.
    #[serde(rename = "payment.refunded")]
    Refunded(PaymentAmount),
}

impl Payload for PaymentEvent {
    const SOURCE: &'static str = "madang.payments";
    const SUBJECT: &'static str = "order_id";
    const TYPES: &'static [&'static str] =
        &["payment.authorized", "payment.captured", "payment.cancelled", "payment.refunded"];

    fn subject(&self) -> Uuid {
        let (Self::Authorized(payment)
        | Self::Captured(payment)
        | Self::Cancelled(payment)
        | Self::Refunded(payment)) = self;
        payment.order_id
    }
}

/// An order's payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct PaymentAmount {
    /// The order.
    pub order_id: Uuid,
    /// The amount.
    pub amount: Money,
}
