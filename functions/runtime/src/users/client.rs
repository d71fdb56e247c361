//! A client for the users service.
//!
//! By HTTP at `GET /internal/users/{id}`, or by RPC: the function `users-lookup` is invoked directly, with
//! `{"id": …}`, and answers `{"user": …}` or `{"user": null}`. Each caller's role permits one of the two.

use kernel::clock::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::services::calls;

/// A client for the users service.
pub type UsersClient = calls::Client<User>;

/// A user, as the users service shows it to other services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "UserForServices"))]
pub struct User {
    /// The user's id.
    pub id: Uuid,
    /// The display name.
    pub name: String,
    /// The verified e-mail address.
    pub email: String,
    /// When the profile was created.
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

/// The input of a direct invoke.
#[derive(Debug, Deserialize)]
pub struct LookupInput {
    /// The id of the user.
    pub id: Uuid,
}

/// The output of a direct invoke.
#[derive(Debug, Serialize)]
pub struct LookupOutput {
    /// The user; `None` if there is none, or if it was deleted.
    pub user: Option<User>,
}
