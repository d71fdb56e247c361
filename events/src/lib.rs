//! The events that services publish. Nothing else of a service is visible to the others.
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
//! `make contract` writes the schemas, and the inputs of the API's functions. `tests/tests/offline/contract/generated.rs` fails
//! if one of them is out of date, `tests/tests/offline/catalogue.rs` if an example or input does not match the code.
//!
//! Consumers ignore unknown fields, so that a publisher can add one. Removing or changing a field takes a new schema version,
//! published beside the old one.

mod comment;
mod inventory;
mod item;
mod notification;
mod order;
mod payment;
mod post;
mod user;

pub use comment::{CommentCreated, CommentEvent, CommentRef};
pub use inventory::{InventoryEvent, OrderItems};
pub use item::{Item, PricedItem, Quantity, Sku};
pub use notification::{NotificationCreated, NotificationEvent};
pub use order::{OrderEvent, OrderSummary};
pub use payment::{PaymentAmount, PaymentEvent};
pub use post::{PostDeleted, PostEvent, PostTitled};
pub use user::{UserDeleted, UserEvent, UserNamed};
