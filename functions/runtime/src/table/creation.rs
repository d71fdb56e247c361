//! Creates an aggregate once per idempotency key.
//!
//! The aggregate's id is derived from the key ([`CreationRequest`]), so that a repeated request finds what the first one created.
//! The item stores the digest of that request, and so does its tombstone. A repeat gets the first request's answer, even if the
//! aggregate was changed or deleted since; another request with the same key is refused. Thirty days after a deletion the
//! tombstone, and with it the key, is forgotten.

use kernel::{
    clock::Timestamp,
    event::{CloudEvent, Payload},
    idempotency::CreationRequest,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Error, Key, Table, Written, aggregate::Stored, limits::Counted};

/// An aggregate that a request can create once.
pub trait Creatable {
    /// When it was created.
    fn created_at(&self) -> Timestamp;

    /// Where its tombstone still counts against the limit of its author; `None` if it is never deleted, or there is no limit.
    fn counted(&self) -> Option<Counted> {
        None
    }
}

/// An aggregate as it is stored, with the digest of the request that created it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithRequest<T> {
    /// The aggregate.
    #[serde(flatten)]
    pub aggregate: T,
    /// The digest of the request.
    request: String,
}

/// The request that created an aggregate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// When the aggregate was created.
    pub created_at: Timestamp,
    /// The digest of the request.
    pub request: String,
    /// Where the aggregate counts although it is deleted, if it does.
    #[serde(flatten)]
    pub counted: Option<Counted>,
}

/// The result of a request that creates something.
#[derive(Debug, PartialEq, Eq)]
pub enum Creation<T> {
    /// It was created.
    Done(T),
    /// It was created before, at this time, by the same request with the same idempotency key.
    Repeated(Timestamp),
    /// The key was used before by another request, or by one whose digest is unknown.
    KeyReused,
}

impl<T> Creation<T> {
    /// Converts what was created.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Creation<U> {
        match self {
            Self::Done(created) => Creation::Done(convert(created)),
            Self::Repeated(first) => Creation::Repeated(first),
            Self::KeyReused => Creation::KeyReused,
        }
    }
}

impl<T: Creatable> WithRequest<T> {
    /// The aggregate that this request creates.
    pub fn by(request: &CreationRequest, aggregate: T) -> Self {
        Self { aggregate, request: request.digest().to_owned() }
    }

    /// The aggregate after a change.
    #[must_use]
    pub fn with(&self, aggregate: T) -> Self {
        Self { aggregate, request: self.request.clone() }
    }

    /// The request that created it, and when: what its tombstone keeps.
    pub fn origin(&self) -> Origin {
        Origin {
            created_at: self.aggregate.created_at(),
            request: self.request.clone(),
            counted: self.aggregate.counted(),
        }
    }
}

impl<T: Creatable> Stored<WithRequest<T>> {
    /// The result of a request whose id this item already has.
    fn creation<U>(&self, request: &CreationRequest) -> Creation<U> {
        let origin = match self {
            Self::Live(created) => Some(created.origin()),
            Self::Deleted(tombstone) => tombstone.origin.clone(),
        };
        match origin {
            Some(origin) if origin.request == request.digest() => Creation::Repeated(origin.created_at),
            _ => Creation::KeyReused,
        }
    }
}

impl Table {
    /// Stores a new aggregate with its event, unless a request with the same idempotency key did so before.
    pub async fn create_once<T, P>(
        &self,
        key: Key,
        request: &CreationRequest,
        aggregate: T,
        event: CloudEvent<P>,
    ) -> Result<Creation<T>, Error>
    where
        T: Creatable + Serialize + DeserializeOwned,
        P: Payload,
    {
        let created = WithRequest::by(request, aggregate);
        match self.create(key, &created, event).await? {
            Written::Done => Ok(Creation::Done(created.aggregate)),
            Written::ConditionFailed(Some(present)) => Ok(present.creation(request)),
            Written::ConditionFailed(None) => {
                Err(Error::Broken("DynamoDB did not return the item that failed the condition".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::idempotency::IdempotencyKey;
    use uuid::Uuid;

    use super::*;
    use crate::table::aggregate::Tombstone;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Room {
        name: String,
        created_at: Timestamp,
    }

    impl Creatable for Room {
        fn created_at(&self) -> Timestamp {
            self.created_at
        }

        fn counted(&self) -> Option<Counted> {
            Some(Counted::by(Uuid::nil(), "then"))
        }
    }

    fn request(body: &str) -> CreationRequest {
        let key = IdempotencyKey::parse(b"k").unwrap();
        CreationRequest::new(Uuid::nil(), "POST /rooms", Some(&key), &body)
    }

    fn given_a_room_by(request: &CreationRequest) -> WithRequest<Room> {
        let room = Room { name: "Attic".to_owned(), created_at: Timestamp::from_microsecond(7) };
        WithRequest::by(request, room)
    }

    #[test]
    fn a_repeat_gets_the_creation_time_even_after_a_change_or_deletion() {
        let first = request("attic");
        let created = given_a_room_by(&first);
        let renamed = created.with(Room { name: "Loft".to_owned(), ..created.aggregate.clone() });
        let tombstone = Tombstone { version: 2, origin: Some(created.origin()), expires_at: 0 };
        for present in [Stored::Live(created), Stored::Live(renamed), Stored::Deleted(tombstone)] {
            let repeated: Creation<Room> = present.creation(&request("attic"));
            assert_eq!(repeated, Creation::Repeated(Timestamp::from_microsecond(7)));
            assert_eq!(present.creation::<Room>(&request("cellar")), Creation::KeyReused);
        }
    }

    #[test]
    fn a_tombstone_without_an_origin_refuses_every_request() {
        let present: Stored<WithRequest<Room>> =
            Stored::Deleted(Tombstone { version: 2, origin: None, expires_at: 0 });
        assert_eq!(present.creation::<Room>(&request("attic")), Creation::KeyReused);
    }

    #[test]
    fn a_tombstone_keeps_its_place_in_the_index_of_its_author_and_an_old_one_without_it_is_read() {
        let origin = given_a_room_by(&request("attic")).origin();
        assert_eq!(origin.counted, Some(Counted::by(Uuid::nil(), "then")));
        let tombstone = Tombstone { version: 2, origin: Some(origin.clone()), expires_at: 0 };
        let stored = serde_json::to_value(Stored::<()>::Deleted(tombstone)).unwrap();
        let place = (&stored["author_id"], &stored["created"]);
        assert_eq!(place, (&format!("deleted#{}", Uuid::nil()).into(), &"then".into()));

        let mut old = stored;
        for name in ["author_id", "created"] {
            old.as_object_mut().unwrap().remove(name);
        }
        let read: Stored<WithRequest<Room>> = serde_json::from_value(old).unwrap();
        let origin = Some(Origin { counted: None, ..origin });
        assert_eq!(read, Stored::Deleted(Tombstone { version: 2, origin, expires_at: 0 }));
    }

    #[test]
    fn the_digest_is_an_attribute_of_the_item() {
        let first = request("attic");
        let stored = serde_json::to_value(Stored::Live(given_a_room_by(&first))).unwrap();
        assert_eq!((&stored["request"], &stored["name"]), (&first.digest().into(), &"Attic".into()));
        let read: Stored<WithRequest<Room>> = serde_json::from_value(stored).unwrap();
        assert_eq!(read, Stored::Live(given_a_room_by(&first)));
    }
}
