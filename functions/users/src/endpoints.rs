//! The HTTP endpoints, and the remote procedure call of other services.

use kernel::{
    clock::Timestamp,
    idempotency,
    problem::{Kind, Problem},
};
use runtime::{
    aws::identity_provider::{Email, UserPool},
    error::read_value,
    serve::http::{Reply, Request},
    table::{
        self, Written,
        aggregate::{Stored, until_written},
    },
    telemetry::annotate,
    users::{LookupInput, LookupOutput, User},
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    profile::{Name, Profile, read_name},
    store::{Profiles, Record},
};

/// A user as the API shows it.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "User"))]
pub(crate) struct UserView<'a> {
    /// The user: the `sub` of the access token.
    id: Uuid,
    /// The display name.
    name: &'a Name,
    /// The e-mail address, for its owner only.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    /// When the user registered.
    created_at: Timestamp,
    /// 1 at first, increased by each change.
    version: u64,
}

impl<'a> UserView<'a> {
    fn own(profile: &'a Profile) -> Self {
        Self { email: Some(&profile.email), ..Self::public(profile) }
    }

    fn public(profile: &'a Profile) -> Self {
        let Profile { id, name, created_at, version, .. } = profile;
        Self { id: *id, name, email: None, created_at: *created_at, version: *version }
    }
}

/// `POST /users`: creates the caller's profile. A repeat returns the existing one.
pub async fn register(
    (profiles, user_pool): &(Profiles, UserPool),
    request: &Request,
) -> Result<Reply, Problem> {
    let caller = request.caller()?;
    let key = request.idempotency_key()?;
    let name = read_name(request.json()?)?;
    let registered_with = key.map(|key| (key.digest(), idempotency::digest(&name)));

    let email = match user_pool.email(&caller.username).await? {
        Email::Verified(email) => email,
        Email::Unverified => return Err(refused(profiles, caller.id, NOT_VERIFIED).await?),
        Email::NoLogin => return Err(refused(profiles, caller.id, NO_LOGIN).await?),
    };
    let (profile, event) = Profile::register(caller.id, name, email, Timestamp::now());
    let record = Record { profile, registered_with };
    match profiles.create(&record, event).await? {
        Written::Done => {
            Ok(Reply::created(&UserView::own(&record.profile), &format!("users/{}", caller.id))?.etag(1))
        }
        Written::ConditionFailed(Some(Stored::Live(existing))) => {
            if same_key_other_request(&existing, &record) {
                return Err(idempotency::reused());
            }
            Ok(Reply::ok(&UserView::own(&existing.profile))?.etag(existing.profile.version))
        }
        Written::ConditionFailed(_) => Err(Problem::profile_deleted()),
    }
}

const NOT_VERIFIED: &str = "the e-mail address of your login is not verified: verify it with the code that was mailed to you, \
                            then repeat this request";
const NO_LOGIN: &str = "your login no longer exists: sign up again";

/// Why a caller without a verified address cannot register. A login is removed a moment after its profile. A caller whose profile
/// was deleted gets the same answer before and after that.
async fn refused(profiles: &Profiles, id: Uuid, detail: &str) -> Result<Problem, table::Error> {
    Ok(match profiles.find(id).await? {
        Some(Stored::Deleted(_)) => Problem::profile_deleted(),
        _ => Problem::new(Kind::Forbidden, detail),
    })
}

fn same_key_other_request(existing: &Record, new: &Record) -> bool {
    match (&existing.registered_with, &new.registered_with) {
        (Some((existing_key, existing_request)), Some((key, request))) => {
            existing_key == key && existing_request != request
        }
        _ => false,
    }
}

/// `GET /users/me`.
pub async fn get_own(profiles: &Profiles, request: &Request) -> Result<Reply, Problem> {
    let profile = profiles.own(request.caller()?.id).await?;
    Ok(Reply::ok(&UserView::own(&profile))?.etag(profile.version))
}

/// `GET /users/{id}`. Only its owner sees the e-mail address.
pub async fn get(profiles: &Profiles, request: &Request) -> Result<Reply, Problem> {
    let caller = request.caller()?;
    let profile = live(profiles, request.id("id")?).await?.ok_or_else(|| Problem::not_found("user"))?;
    let reply = if profile.id == caller.id {
        Reply::ok(&UserView::own(&profile))?.etag(profile.version)
    } else {
        Reply::ok(&UserView::public(&profile))?.etag_of_view(profile.version)
    };
    Ok(reply.depends_on_caller())
}

/// `PATCH /users/me`.
pub async fn update(profiles: &Profiles, request: &Request) -> Result<Reply, Problem> {
    let caller = request.caller()?;
    let name = read_name(request.json()?)?;

    let renamed = until_written(async || {
        let profile = profiles.own(caller.id).await?;
        request.require_match(profile.version)?;
        let version_read = profile.version;
        let (profile, event) = profile.rename(name.clone(), Timestamp::now());
        Ok::<_, Problem>(profiles.rename(version_read, &profile, event).await?.then_some(profile))
    });
    let profile = renamed.await?.ok_or_else(Problem::concurrent_change)?;
    Ok(Reply::ok(&UserView::own(&profile))?.etag(profile.version))
}

/// `DELETE /users/me`. The login, and other services' data about the user, are removed when `user.deleted` reaches them.
pub async fn delete(profiles: &Profiles, request: &Request) -> Result<Reply, Problem> {
    let caller = request.caller()?;
    let deleted = until_written(async || {
        let profile = profiles.own(caller.id).await?;
        request.check_match(profile.version)?;
        Ok::<_, Problem>(profiles.delete(&profile, profile.delete(Timestamp::now())).await?.then_some(()))
    });
    deleted.await?.ok_or_else(Problem::concurrent_change)?;
    Ok(Reply::accepted())
}

/// `GET /internal/users/{id}`, for other services (IAM).
pub async fn lookup(profiles: &Profiles, request: &Request) -> Result<Reply, Problem> {
    request.require_signature()?;
    let profile = live(profiles, request.id("id")?).await?.ok_or_else(|| Problem::not_found("user"))?;
    Reply::ok(&user(profile))
}

/// The same lookup as a remote procedure call: from `{"id": …}` to `{"user": …}`.
pub async fn lookup_call(profiles: &Profiles, input: Value) -> Result<Value, Problem> {
    let LookupInput { id } = read_value(input)
        .map_err(|error| Problem::new(Kind::Unreadable, format!("not a lookup: {error}")))?;
    annotate("user_id", id);
    let user = live(profiles, id).await?.map(user);
    serde_json::to_value(LookupOutput { user }).map_err(Problem::internal)
}

async fn live(profiles: &Profiles, id: Uuid) -> Result<Option<Profile>, Problem> {
    Ok(profiles.find(id).await?.and_then(Stored::live))
}

fn user(profile: Profile) -> User {
    let Profile { id, name, email, created_at, version } = profile;
    User { id, name: name.as_str().to_owned(), email, created_at, version }
}
