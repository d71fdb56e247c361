//! A service's own copy of the users' names, kept current by the users' events.
//!
//! Showing a name, and refusing a deleted user, thereby needs no call to another service. A user whose
//! `user.created` is still on its way is asked for at the users service.

use events::UserEvent;
use kernel::{event::CloudEvent, problem::Problem};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use uuid::Uuid;

use crate::{
    aggregate::TOMBSTONE_LIFE,
    copies::Standing,
    http::{Caller, Request},
    table::{self, Condition, Key, Table},
    users::UsersClient,
};

/// Who wrote something, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Author {
    /// The user.
    pub id: Uuid,
    /// The display name.
    pub name: String,
}

/// What a service knows of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCopy {
    /// The user.
    pub id: Uuid,
    /// The display name; none once the user is deleted.
    pub name: Option<String>,
    /// The version of the profile that this was copied from.
    pub sequence: u64,
    /// When DynamoDB may remove the copy of a deleted user (time to live).
    pub expires_at: Option<i64>,
}

impl UserCopy {
    /// What an event tells of its user.
    pub fn of(event: &CloudEvent<UserEvent>) -> Self {
        let (name, expires_at) = match &event.payload {
            UserEvent::Created(user) | UserEvent::Updated(user) => (Some(user.name.clone()), None),
            UserEvent::Deleted(_) => (None, Some(event.time.as_second() + TOMBSTONE_LIFE)),
        };
        Self { id: event.subject, name, sequence: event.sequence, expires_at }
    }

    /// The user as an author; 403 where the profile has been deleted.
    pub fn author(&self) -> Result<Author, Problem> {
        let name = self.name.clone().ok_or_else(Problem::profile_deleted)?;
        Ok(Author { id: self.id, name })
    }
}

/// The key of a user's copy.
pub fn key(user: Uuid) -> Key {
    Key::new(format!("user#{user}"), "user")
}

/// Writes what an event tells of its user, unless something later is known already.
pub async fn apply(table: &Table, event: &CloudEvent<UserEvent>) -> Result<Standing, table::Error> {
    let copy = UserCopy::of(event);
    table.put_copy(key(copy.id), &copy, copy.sequence).await
}

/// Gives something that a user wrote the user's name as of version `sequence` of the profile, unless it
/// has a later one. The item holds the author in `author` and that version in `author_sequence`.
pub async fn rename(table: &Table, item: Key, author: &Author, sequence: u64) -> Result<(), table::Error> {
    #[derive(Serialize)]
    struct Renamed<'a> {
        author: &'a Author,
        author_sequence: u64,
    }
    let renamed = Renamed { author, author_sequence: sequence };
    let older =
        Condition::new("#state = :live AND #author_sequence < :author_sequence").value("live", "live");
    table.update::<IgnoredAny>(item, &renamed, &[], older).await?;
    Ok(())
}

/// The caller as an author, with the version of the profile the name is from: 403 for who has no profile.
pub async fn author(
    copy: Option<UserCopy>,
    caller: &Caller,
    users: &UsersClient,
    request: &Request,
) -> Result<(Author, u64), Problem> {
    if let Some(copy) = copy {
        return Ok((copy.author()?, copy.sequence));
    }
    let user = users.get(caller.id, request.time_left()).await?.ok_or_else(Problem::profile_required)?;
    Ok((Author { id: user.id, name: user.name }, user.version))
}

/// 403 where the caller's profile has been deleted: a token outlives it.
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
