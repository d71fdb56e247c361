//! The published language: the events that services tell each other, and nothing else of any service.
//!
//! A service that publishes has an enum here, one variant an event type. Publisher and consumers read
//! and write the same type, wrapped in [`kernel::event::CloudEvent`]. Beside the code lie
//!
//! - `schemas/<type>.v<N>.json`: the JSON Schema of an event's whole envelope,
//! - `examples/<type>.v<N>.json`: one event as it is on the bus,
//! - `invoke/<function>.json`: an input for `cargo lambda invoke`.
//!
//! `tests/tests/offline/catalogue.rs` keeps them true.
//!
//! An unknown field is ignored by consumers, so that a publisher can add one; removing or changing a
//! field is a new schema version, published side by side.

mod comment;
mod goods;
mod inventory;
mod notification;
mod order;
mod payment;
mod post;
mod user;

pub use comment::{CommentChanged, CommentCreated, CommentEvent};
pub use goods::{Item, PricedItem, Quantity, Sku};
pub use inventory::{InventoryEvent, OrderItems};
pub use notification::{NotificationCreated, NotificationEvent};
pub use order::{OrderEvent, OrderSummary};
pub use payment::{PaymentAmount, PaymentEvent};
pub use post::{PostDeleted, PostEvent, PostTitled};
pub use user::{UserDeleted, UserEvent, UserNamed};
