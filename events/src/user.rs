//! Events of users.

use kernel::event::Payload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happens to users. The subject is the user's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub enum UserEvent {
    /// Someone registered.
    #[serde(rename = "user.created")]
    Created(UserNamed),
    /// The profile changed.
    #[serde(rename = "user.updated")]
    Updated(UserNamed),
    /// The profile was deleted. Services delete what they have about the user, except orders and payments.
    #[serde(rename = "user.deleted")]
    Deleted(UserDeleted),
}

impl Payload for UserEvent {
    const SOURCE: &'static str = "madang.users";
    const SUBJECT: &'static str = "user_id";
    const TYPES: &'static [&'static str] = &["user.created", "user.updated", "user.deleted"];

    fn subject(&self) -> Uuid {
        match self {
            Self::Created(user) | Self::Updated(user) => user.id,
            Self::Deleted(user) => user.id,
        }
    }
}

/// A user and the display name. Events carry no e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct UserNamed {
    /// The user: the `sub` of the access token.
    pub id: Uuid,
    /// The display name.
    #[cfg_attr(feature = "contract", schemars(length(min = 1, max = Self::MAX_NAME)))]
    pub name: String,
}

impl UserNamed {
    /// Maximum characters of a display name.
    pub const MAX_NAME: usize = 80;
}

/// A deleted user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct UserDeleted {
    /// The user.
    pub id: Uuid,
}
