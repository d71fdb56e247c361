//! Profiles in the table, one item each.

use events::UserEvent;
use kernel::{event::CloudEvent, problem::Problem};
use runtime::{
    Error,
    table::{self, Key, Table, Written, aggregate::Stored},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::profile::{Name, Profile};

/// A profile as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The profile.
    #[serde(flatten)]
    pub profile: Profile,
    /// The request that registered it, if it had an idempotency key: a digest of the key, and one of the request.
    pub registered_with: Option<(String, String)>,
}

/// The profiles.
#[derive(Clone, Debug)]
pub struct Profiles {
    table: Table,
}

fn key(id: Uuid) -> Key {
    Key::new(format!("user#{id}"), "profile")
}

impl Profiles {
    /// Connects to the table.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self { table: Table::connect().await? })
    }

    /// The profile, or its tombstone.
    pub async fn find(&self, id: Uuid) -> Result<Option<Stored<Profile>>, table::Error> {
        self.table.get(key(id)).await
    }

    /// The profile of the caller; 403 if there is none, or it was deleted.
    pub async fn own(&self, id: Uuid) -> Result<Profile, Problem> {
        match self.find(id).await? {
            Some(Stored::Live(profile)) => Ok(profile),
            Some(Stored::Deleted(_)) => Err(Problem::profile_deleted()),
            None => Err(Problem::profile_required()),
        }
    }

    /// Stores a new profile.
    pub async fn create(
        &self,
        record: &Record,
        event: CloudEvent<UserEvent>,
    ) -> Result<Written<Stored<Record>>, table::Error> {
        self.table.create(key(record.profile.id), record, event).await
    }

    /// Writes the new name of version `version_read`, if that is still the current version.
    pub async fn rename(
        &self,
        version_read: u64,
        profile: &Profile,
        event: CloudEvent<UserEvent>,
    ) -> Result<Written<()>, table::Error> {
        #[derive(Serialize)]
        struct Renamed<'a> {
            name: &'a Name,
            version: u64,
        }
        let renamed = Renamed { name: &profile.name, version: profile.version };
        self.table.save(key(profile.id), version_read, &renamed, event).await
    }

    /// Deletes a profile, if its version is still the one that was read.
    pub async fn delete(
        &self,
        profile: &Profile,
        event: CloudEvent<UserEvent>,
    ) -> Result<Written<()>, table::Error> {
        self.table.bury(key(profile.id), profile.version, None, event).await
    }
}
