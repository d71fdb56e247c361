//! Events of the stock that is reserved for an order.

use kernel::event::Payload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Item;

/// What happens to the stock for an order. The subject is the order's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub enum InventoryEvent {
    /// The items are held for the order.
    #[serde(rename = "inventory.reserved")]
    Reserved(OrderItems),
    /// The items are free again.
    #[serde(rename = "inventory.released")]
    Released(OrderItems),
    /// The items have left the stock.
    #[serde(rename = "inventory.committed")]
    Committed(OrderItems),
}

impl Payload for InventoryEvent {
    const SOURCE: &'static str = "madang.inventory";
    const SUBJECT: &'static str = "order_id";
    const TYPES: &'static [&'static str] =
        &["inventory.reserved", "inventory.released", "inventory.committed"];

    fn subject(&self) -> Uuid {
        let (Self::Reserved(order) | Self::Released(order) | Self::Committed(order)) = self;
        order.order_id
    }
}

/// The items of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct OrderItems {
    /// The order.
    pub order_id: Uuid,
    /// The items of the order.
    #[cfg_attr(feature = "contract", schemars(length(min = 1, max = Self::MAX_ITEMS)))]
    pub items: Vec<Item>,
}

impl OrderItems {
    /// Maximum items of an order.
    pub const MAX_ITEMS: usize = 50;
}
