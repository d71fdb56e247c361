use kernel::event::Payload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Item;

/// What happens to the stock for an order. The subject is the order's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
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
    const TYPES: &'static [&'static str] =
        &["inventory.reserved", "inventory.released", "inventory.committed"];
}

/// The items of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderItems {
    /// The order.
    pub order_id: Uuid,
    /// What it takes from the stock.
    pub items: Vec<Item>,
}
