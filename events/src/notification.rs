use kernel::event::Payload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happens to notifications. The subject is the notification's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum NotificationEvent {
    /// A user has a new notification.
    #[serde(rename = "notification.created")]
    Created(NotificationCreated),
}

impl Payload for NotificationEvent {
    const SOURCE: &'static str = "madang.notifications";
    const TYPES: &'static [&'static str] = &["notification.created"];
}

/// A new notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationCreated {
    /// The notification.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// What it is about: `welcome`, `comment`, or `order_` and what happened to the order.
    #[serde(rename = "type")]
    pub kind: String,
}
