//! Events of orders.

use kernel::{event::Payload, money::Money};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happens to orders. The subject is the order's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub enum OrderEvent {
    /// Someone placed an order.
    #[serde(rename = "order.placed")]
    Placed(OrderSummary),
    /// It will be delivered.
    #[serde(rename = "order.confirmed")]
    Confirmed(OrderSummary),
    /// It will not be delivered; `reason` says why.
    #[serde(rename = "order.rejected")]
    Rejected(OrderSummary),
    /// Its buyer cancelled it in time.
    #[serde(rename = "order.cancelled")]
    Cancelled(OrderSummary),
    /// It waits for an operator.
    #[serde(rename = "order.needs_attention")]
    NeedsAttention(OrderSummary),
}

impl OrderEvent {
    /// The order's summary in the event.
    pub fn summary(&self) -> &OrderSummary {
        match self {
            Self::Placed(order)
            | Self::Confirmed(order)
            | Self::Rejected(order)
            | Self::Cancelled(order)
            | Self::NeedsAttention(order) => order,
        }
    }
}

impl Payload for OrderEvent {
    const SOURCE: &'static str = "madang.orders";
    const SUBJECT: &'static str = "order_id";
    const TYPES: &'static [&'static str] =
        &["order.placed", "order.confirmed", "order.rejected", "order.cancelled", "order.needs_attention"];

    fn subject(&self) -> Uuid {
        self.summary().id
    }
}

/// An order as its events describe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct OrderSummary {
    /// The order.
    pub id: Uuid,
    /// Who placed it.
    pub buyer_id: Uuid,
    /// The total price; unknown until inventory has calculated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Money>,
    /// Why it was rejected or cancelled, as the API's `reason`.
    #[cfg_attr(feature = "contract", schemars(length(min = 1)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
