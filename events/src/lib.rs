//! The published language: the events that services publish, and nothing else of any service.
//!
//! Each publishing service has an enum here, with one variant per event type. Publisher and consumers use the same type,
//! wrapped in [`kernel::event::CloudEvent`]. Beside the code are
//!
//! - `schemas/<type>.v<N>.json`: the JSON Schema of an event with its envelope,
//! - `released/`: every revision of a schema that was ever released. Nothing in it is changed; the tests refuse a schema that
//!   rejects released events,
//! - `examples/<type>.v<N>.json`: one event as it is on the bus,
//! - `invoke/<function>.json`: an input for `cargo lambda invoke`.
//!
//! `make contract` writes the schemas, and `tests/tests/offline/catalogue.rs` fails if one of these files is out of date.
//!
//! Consumers ignore unknown fields, so that a publisher can add one. Removing or changing a field takes a new schema version,
//! published beside the old one.

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
