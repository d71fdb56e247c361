//! A service's own copy of the users' names, kept current by the users' events.
//!
//! Showing a name or refusing a deleted user therefore needs no call. The users service is called only if `user.created` has not
//! arrived yet.

use events::UserEvent;
use kernel::{event::CloudEvent, problem::Problem};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use uuid::Uuid;

use crate::{
    serve::http::{Caller, Request},
    table::{self, Condition, Key, Table, aggregate::TOMBSTONE_LIFE, copies::Copied},
    users::UsersClient,
};

/// The author of something, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Author {
    /// The user.
    pub id: Uuid,
    /// The display name.
    pub name: String,
}

/// A service's copy of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCopy {
    /// The user.
    pub id: Uuid,
    /// The display name; `None` once the user is deleted.
    pub name: Option<String>,
    /// The version of the profile that was copied.
    pub sequence: u64,
    /// When DynamoDB may remove the copy of a deleted user (time to live).
    pub expires_at: Option<i64>,
}

impl UserCopy {
    /// The copy that an event results in.
    pub fn of(event: &CloudEvent<UserEvent>) -> Self {
        let (name, expires_at) = match &event.payload {
            UserEvent::Created(user) | UserEvent::Updated(user) => (Some(user.name.clone()), None),
            UserEvent::Deleted(_) => (None, Some(event.time.as_second() + TOMBSTONE_LIFE)),
        };
        Self { id: event.subject, name, sequence: event.sequence, expires_at }
    }

    /// The user as an author; 403 if the profile was deleted.
    pub fn author(&self) -> Result<Author, Problem> {
        let name = self.name.clone().ok_or_else(Problem::profile_deleted)?;
        Ok(Author { id: self.id, name })
    }
}

/// The key of a user's copy.
pub fn key(user: Uuid) -> Key {
    Key::new(format!("user#{user}"), "user")
}

/// Updates the copy from an event, unless it is from a later one already.
pub async fn apply(table: &Table, event: &CloudEvent<UserEvent>) -> Result<Copied, table::Error> {
    let copy = UserCopy::of(event);
    table.put_copy(key(copy.id), &copy, copy.sequence).await
}

/// Sets the author's name in an item to that of version `sequence` of the profile, unless the item has a later one. The item
/// has the author in `author` and that version in `author_sequence`.
pub async fn rename(table: &Table, item: Key, author: &Author, sequence: u64) -> Result<(), table::Error> {
    #[derive(Serialize)]
    struct Renamed<'a> {
        author: &'a Author,
        author_sequence: u64,
    }
    let renamed = Renamed { author, author_sequence: sequence };
    let older = Condition::new("#state = :live AND #author_sequence < :sequence")
        .value("live", "live")
        .value("sequence", sequence);
    table.set::<IgnoredAny>(item, &renamed, &[], older).await?;
    Ok(())
}

/// The caller as an author, with the version of the profile; 403 without a profile.
pub async fn resolve_author(
    copy: Option<UserCopy>,
    caller: &Caller,
    users: &UsersClient,
    request: &Request,
) -> Result<(Author, u64), Problem> {
    if let Some(copy) = copy {
        return Ok((copy.author()?, copy.sequence));
    }
    let user = users.get(caller.id, request.deadline()).await?.ok_or_else(Problem::profile_required)?;
    Ok((Author { id: user.id, name: user.name }, user.version))
}

/// 403 if the caller's profile was deleted: an access token outlives it.
pub fn refuse_deleted(copy: Option<&UserCopy>) -> Result<(), Problem> {
    copy.map_or(Ok(()), |copy| copy.author().map(drop))
}

#[cfg(test)]
mod tests {
    use events::{UserDeleted, UserNamed};
    use kernel::{clock::Timestamp, problem::Kind};

    use super::*;

    fn event(payload: UserEvent) -> CloudEvent<UserEvent> {
        CloudEvent::new(Uuid::from_u128(7), 3, Timestamp::from_microsecond(0), payload)
    }

    #[test]
    fn a_copy_has_the_name_and_the_version_it_is_from() {
        let named = UserNamed { id: Uuid::from_u128(7), name: "Ara".to_owned() };
        let copy = UserCopy::of(&event(UserEvent::Updated(named)));
        assert_eq!((copy.sequence, copy.expires_at), (3, None));
        assert_eq!(copy.author().unwrap().name, "Ara");
        assert!(refuse_deleted(Some(&copy)).is_ok());
    }

    #[test]
    fn the_copy_of_a_deleted_user_has_no_name_and_refuses_until_it_expires() {
        let copy = UserCopy::of(&event(UserEvent::Deleted(UserDeleted { id: Uuid::from_u128(7) })));
        assert_eq!((copy.name.as_deref(), copy.expires_at), (None, Some(TOMBSTONE_LIFE)));
        assert_eq!(refuse_deleted(Some(&copy)).unwrap_err().kind, Kind::ProfileDeleted);
    }
}
