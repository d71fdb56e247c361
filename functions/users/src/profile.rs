//! The aggregate: what a profile is and how it changes.

use events::{UserDeleted, UserEvent, UserNamed};
use kernel::{clock::Timestamp, event::CloudEvent, input::Fields, problem::Problem, text::Line};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A display name: 1 to 80 characters.
pub type Name = Line<{ UserNamed::MAX_NAME }>;

/// Reads the body of `POST /users` and `PATCH /users/me`: `{"name": …}`.
pub fn read_name(mut fields: Fields) -> Result<Name, Problem> {
    let name = fields.required("name");
    fields.finish(name)
}

/// A user's profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The user's id: the `sub` of the access token.
    pub id: Uuid,
    /// The display name.
    pub name: Name,
    /// The verified e-mail address from the user pool. Shown to the user only.
    pub email: String,
    /// When the user registered.
    pub created_at: Timestamp,
    /// 1 at first, increased by each change.
    pub version: u64,
}

impl Profile {
    /// Registers a user.
    pub fn register(id: Uuid, name: Name, email: String, now: Timestamp) -> (Self, CloudEvent<UserEvent>) {
        let profile = Self { id, name, email, created_at: now, version: 1 };
        let event = CloudEvent::new(id, 1, now, UserEvent::Created(profile.named()));
        (profile, event)
    }

    /// Changes the name.
    #[must_use]
    pub fn rename(self, name: Name, now: Timestamp) -> (Self, CloudEvent<UserEvent>) {
        let profile = Self { name, version: self.version + 1, ..self };
        let event = CloudEvent::new(profile.id, profile.version, now, UserEvent::Updated(profile.named()));
        (profile, event)
    }

    /// Deletes the profile.
    pub fn delete(&self, now: Timestamp) -> CloudEvent<UserEvent> {
        CloudEvent::new(self.id, self.version + 1, now, UserEvent::Deleted(UserDeleted { id: self.id }))
    }

    fn named(&self) -> UserNamed {
        UserNamed { id: self.id, name: self.name.as_str().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text.to_owned()).unwrap()
    }

    fn given_a_profile() -> Profile {
        Profile::register(Uuid::from_u128(7), name("Ara"), "ara@example.com".to_owned(), Timestamp::now()).0
    }

    #[test]
    fn registering_makes_version_1_and_publishes_the_name_but_not_the_address() {
        let now = Timestamp::now();
        let (profile, event) =
            Profile::register(Uuid::from_u128(7), name("Ara"), "ara@example.com".to_owned(), now);
        assert_eq!((profile.version, event.sequence, event.subject), (1, 1, profile.id));
        assert_eq!(event.payload, UserEvent::Created(UserNamed { id: profile.id, name: "Ara".to_owned() }));
        assert!(!serde_json::to_string(&event).unwrap().contains("ara@example.com"));
    }

    #[test]
    fn renaming_increments_the_version_and_keeps_the_rest() {
        let before = given_a_profile();
        let (after, event) = before.clone().rename(name("Bada"), Timestamp::now());
        assert_eq!(after, Profile { name: name("Bada"), version: 2, ..before });
        assert_eq!(event.sequence, 2);
        assert_eq!(event.payload, UserEvent::Updated(UserNamed { id: after.id, name: "Bada".to_owned() }));
    }

    #[test]
    fn deleting_increments_the_version_and_publishes_the_id_alone() {
        let profile = given_a_profile();
        let event = profile.delete(Timestamp::now());
        assert_eq!(event.sequence, 2);
        assert_eq!(event.payload, UserEvent::Deleted(UserDeleted { id: profile.id }));
    }

    #[test]
    fn a_body_has_a_name_and_nothing_else() {
        let read = |body: &str| read_name(Fields::read(body.as_bytes()).unwrap());
        assert_eq!(read(r#"{"name": "Ara"}"#).unwrap(), name("Ara"));
        for bad in [r"{}", r#"{"name": ""}"#, r#"{"name": 7}"#, r#"{"name": "Ara", "is_admin": true}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
