//! Events of notifications.

use kernel::event::Payload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happens to notifications. The subject is the notification's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub enum NotificationEvent {
    /// A user has a new notification.
    #[serde(rename = "notification.created")]
    Created(NotificationCreated),
}

impl Payload for NotificationEvent {
    const SOURCE: &'static str = "madang.notifications";
    const SUBJECT: &'static str = "notification_id";
    const TYPES: &'static [&'static str] = &["notification.created"];

    fn subject(&self) -> Uuid {
        let Self::Created(notification) = self;
        notification.id
    }
}

/// A new notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct NotificationCreated {
    /// The notification.
    pub id: Uuid,
    /// The user who is notified.
    pub user_id: Uuid,
    /// The kind of notification.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "contract", schemars(extend("enum" = Self::KINDS)))]
    pub kind: String,
}

impl NotificationCreated {
    /// Every kind of notification.
    pub const KINDS: [&'static str; 7] = [
        "welcome",
        "comment",
        "order_placed",
        "order_confirmed",
        "order_rejected",
        "order_cancelled",
        "order_needs_attention",
    ];
}
