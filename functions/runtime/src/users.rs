//! Asks the users service about a user.
//!
//! By HTTP at `GET /internal/users/{id}`, or by RPC: the function `users-lookup` is invoked directly, with
//! `{"id": …}`, and answers `{"user": …}` or `{"user": null}`. Who may is said by the callers' roles.

use kernel::clock::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::calls;

/// The users service, seen from another.
pub type UsersClient = calls::Client<User>;

/// A user, as the users service tells other services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "UserForServices"))]
pub struct User {
    /// The user's id.
    pub id: Uuid,
    /// The display name.
    pub name: String,
    /// The verified e-mail address.
    pub email: String,
    /// When the profile was made.
    pub created_at: Timestamp,
    /// The profile's version.
    pub version: u64,
}

impl calls::Entity for User {
    const SERVICE: &'static str = "users";
    const NAME: &'static str = "user";
    const PATH: &'static str = "/internal/users/";

    fn id(&self) -> Uuid {
        self.id
    }
}

/// The question of a direct invoke.
#[derive(Debug, Deserialize)]
pub struct Lookup {
    /// Who is meant.
    pub id: Uuid,
}

/// The answer to a direct invoke.
#[derive(Debug, Serialize)]
pub struct Found {
    /// The user; none where there is no such user, or no longer.
    pub user: Option<User>,
}
