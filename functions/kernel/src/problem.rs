//! Errors as clients see them: RFC 9457 problem details.
//!
//! A [`Problem`] has three parts: a [`Kind`] with a public name that never changes, a detail for the
//! client, and a cause for the operator that is logged once, where the answer is written, and never sent.

use std::error::Error;

use http::StatusCode;
use serde::Serialize;
use thiserror::Error as ThisError;

/// The media type of a problem's JSON form.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// The maximum size of a request's body, in KiB. The longest text, 64 KiB, is at most 384 KiB of JSON, if every byte is escaped; the
/// rest is headroom.
pub const MAX_BODY_KIB: usize = 512;

/// What went wrong, by a public name that clients may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 400: the body or a header is malformed.
    Unreadable,
    /// 401: the request has no credentials, or none that are valid.
    Unauthenticated,
    /// 403: the caller may not do this.
    Forbidden,
    /// 403: the caller is signed in but has no profile yet (`POST /users`).
    ProfileRequired,
    /// 403: the caller's profile has been deleted.
    ProfileDeleted,
    /// 404: it does not exist, or the caller may not know that it does.
    NotFound,
    /// 404: the API has no such path, or not for this method. A client is misconfigured; it says nothing about a thing.
    NoSuchPath,
    /// 409: the current state does not allow this, or another request changed it at the same time.
    Conflict,
    /// 412: a precondition of the request does not hold: `If-Match` names another version than the current one, or
    /// `If-None-Match` names what exists.
    StaleVersion,
    /// 413: the body is larger than the endpoint accepts.
    TooLarge,
    /// 415: the body is not `application/json`, or is compressed.
    UnsupportedMediaType,
    /// 422: the request is readable, but fields of its body or parameters of its query are not valid.
    Invalid,
    /// 422: the idempotency key was used before with another body.
    IdempotencyKeyReused,
    /// 428: the request must say with `If-Match` which version it changes.
    VersionRequired,
    /// 429: the caller has created as many of these as one person may within an hour.
    RateLimited,
    /// 500: an unexpected error on our side.
    Internal,
    /// 503: a dependency is down or throttled; try again.
    Unavailable,
}

impl Kind {
    /// Every kind, in the order of their status codes.
    pub const ALL: [Self; 17] = [
        Self::Unreadable,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::ProfileRequired,
        Self::ProfileDeleted,
        Self::NotFound,
        Self::NoSuchPath,
        Self::Conflict,
        Self::StaleVersion,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
        Self::IdempotencyKeyReused,
        Self::VersionRequired,
        Self::RateLimited,
        Self::Internal,
        Self::Unavailable,
    ];

    const fn describe(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unreadable => (StatusCode::BAD_REQUEST, "unreadable", "The request cannot be read"),
            Self::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, "unauthenticated", "Authentication is required")
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Self::ProfileRequired => (StatusCode::FORBIDDEN, "profile-required", "Register first"),
            Self::ProfileDeleted => (StatusCode::FORBIDDEN, "profile-deleted", "The profile was deleted"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "no-such-path", "The API has no such path"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "Not possible in the current state"),
            Self::StaleVersion => {
                (StatusCode::PRECONDITION_FAILED, "stale-version", "The precondition failed")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Unsupported media type or encoding",
            ),
            Self::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request is not valid"),
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The key was used for another request",
            ),
            Self::VersionRequired => {
                (StatusCode::PRECONDITION_REQUIRED, "version-required", "A precondition is required")
            }
            Self::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "rate-limited", "Too many within an hour"),
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side")
            }
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Try again in a moment"),
        }
    }

    /// The HTTP status of the answer.
    pub const fn status(self) -> StatusCode {
        self.describe().0
    }

    /// The last part of the problem type, by which logs and metrics name it.
    pub const fn name(self) -> &'static str {
        self.describe().1
    }

    /// The `type` member: a URI that names the kind and does not have to resolve (RFC 9457, section 3.1.1).
    pub fn uri(self) -> String {
        format!("urn:madang:problem:{}", self.name())
    }
}

/// One invalid field of a body (or a parameter of the query).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field as a JSON pointer (RFC 6901) into the body, or `/` and the name of a query or path parameter.
    pub pointer: String,
    /// What is wrong with it, for people.
    pub detail: String,
}

/// An error that knows what to tell the client and what to tell the operator.
#[derive(Debug, ThisError)]
#[error("{}: {detail}", .kind.name())]
pub struct Problem {
    /// The public name.
    pub kind: Kind,
    /// What the client is told. Never an inner error's text.
    pub detail: String,
    /// The invalid fields, if `kind` is [`Kind::Invalid`].
    pub errors: Vec<FieldError>,
    /// What the operator is told, in the log.
    #[source]
    pub cause: Option<Box<dyn Error + Send + Sync>>,
    /// Seconds after which a retry makes sense, sent as `Retry-After`.
    pub retry_after: Option<u32>,
    /// How to authenticate, sent as `WWW-Authenticate` (RFC 9110, section 11.6.1), which every 401 must have.
    pub challenge: &'static str,
}

/// The challenge of endpoints that take an access token (RFC 6750, section 3).
pub const BEARER: &str = "Bearer realm=\"madang\"";
/// The challenge for a token that is not accepted.
pub const INVALID_TOKEN: &str = "Bearer realm=\"madang\", error=\"invalid_token\"";
/// The challenge of endpoints that take a signature (`SigV4`).
pub const SIGNATURE: &str = "AWS4-HMAC-SHA256";

/// Maximum number of errors in a problem document.
const MAX_ERRORS: usize = 100;

impl Problem {
    /// A problem with a detail for the client.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            cause: None,
            retry_after: None,
            challenge: BEARER,
        }
    }

    /// 401, with the challenge that says how to authenticate.
    pub fn unauthenticated(challenge: &'static str, detail: impl Into<String>) -> Self {
        Self { challenge, ..Self::new(Kind::Unauthenticated, detail) }
    }

    /// 404 for a path, or a method on it, that the API does not have.
    pub fn no_such_path() -> Self {
        Self::new(Kind::NoSuchPath, "the API has no such path, or not for this method")
    }

    /// 404, naming what was looked for ("post", "comment").
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no such {what}"))
    }

    /// 403, naming what someone else owns ("post", "comment").
    pub fn forbidden(what: &str) -> Self {
        Self::new(Kind::Forbidden, format!("this {what} belongs to someone else"))
    }

    /// 409 for a change that lost to another one made at the same time.
    pub fn concurrent_change() -> Self {
        Self::new(Kind::Conflict, "another request changed it at the same time; try again")
    }

    /// 400 for a body that is not JSON, with the position. The parser's own message could quote the body.
    pub fn malformed_json(line: usize, column: usize) -> Self {
        Self::new(Kind::Unreadable, format!("the body is not JSON (line {line}, column {column})"))
    }

    /// 413, naming how many KiB a body may have.
    pub fn too_large(limit: usize) -> Self {
        Self::new(Kind::TooLarge, format!("the body may have at most {limit} KiB"))
    }

    /// 415 for a body whose `Content-Type` is not JSON's.
    pub fn unsupported_media_type() -> Self {
        Self::new(Kind::UnsupportedMediaType, "send the body as JSON, with Content-Type: application/json")
    }

    /// 422 for the given fields. Of more than a hundred errors it keeps the first hundred, and says how many more there are.
    pub fn invalid(mut errors: Vec<FieldError>) -> Self {
        let more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        let mut detail = "the request has invalid fields or parameters: see `errors`".to_owned();
        if more > 0 {
            detail = format!("{detail}, and {more} more");
        }
        Self { errors, ..Self::new(Kind::Invalid, detail) }
    }

    /// 422 for one field.
    pub fn invalid_field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// 403 for a caller who is signed in but has no profile.
    pub fn profile_required() -> Self {
        Self::new(
            Kind::ProfileRequired,
            "you are signed in but have no profile yet: register first with POST /users {\"name\": …}",
        )
    }

    /// 403 for a caller whose profile was deleted while the access token is still valid.
    pub fn profile_deleted() -> Self {
        Self::new(Kind::ProfileDeleted, "your profile has been deleted; to come back, sign up again")
    }

    /// 429 for a caller who has created `limit` of something ("posts", "comments") within an hour, and may create the next one after
    /// `seconds`.
    pub fn rate_limited(limit: u32, what: &str, seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(
                Kind::RateLimited,
                format!(
                    "one person may create {limit} {what} an hour; the next one is possible in {seconds} seconds"
                ),
            )
        }
    }

    /// 500; the cause is for the log only.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(
                Kind::Internal,
                "an unexpected error; if this was a change, it may have been made. Operators find the cause by `instance`",
            )
        }
    }

    /// 503; the cause is for the log only. A call without an answer may have been carried out, so the detail does not claim
    /// that nothing was changed.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: Some(cause.into()),
            retry_after: Some(1),
            ..Self::new(
                Kind::Unavailable,
                "a dependency of this request does not respond; try again. If this was a change, it may have been made: \
                 send the same Idempotency-Key or If-Match again, so that it is made once",
            )
        }
    }

    /// The JSON form. `instance` names this one occurrence.
    pub fn to_json(&self, instance: &str) -> serde_json::Value {
        let (status, _, title) = self.kind.describe();
        let mut body = serde_json::json!({
            "type": self.kind.uri(),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "instance": instance,
        });
        if !self.errors.is_empty() {
            body["errors"] = serde_json::json!(self.errors);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_has_what_the_rfc_names_and_no_cause() {
        let problem = Problem::internal("password=hunter2");
        assert_eq!(
            problem.to_json("urn:uuid:1"),
            serde_json::json!({
                "type": "urn:madang:problem:internal",
                "title": "Something went wrong on our side",
                "status": 500,
                "detail": "an unexpected error; if this was a change, it may have been made. Operators find the cause by \
                           `instance`",
                "instance": "urn:uuid:1",
            })
        );
    }

    #[test]
    fn invalid_fields_are_listed_with_their_pointers() {
        let problem = Problem::invalid_field("/title", "must not be empty");
        assert_eq!(
            problem.to_json("i")["errors"],
            serde_json::json!([{"pointer": "/title", "detail": "must not be empty"}])
        );
    }

    #[test]
    fn of_many_errors_the_first_hundred_are_listed_and_the_others_counted() {
        let errors = |count: usize| {
            (0..count)
                .map(|index| FieldError { pointer: format!("/{index}"), detail: "no".to_owned() })
                .collect()
        };
        for (count, detail) in [
            (100, "the request has invalid fields or parameters: see `errors`"),
            (40_000, "the request has invalid fields or parameters: see `errors`, and 39900 more"),
        ] {
            let problem = Problem::invalid(errors(count));
            assert_eq!(problem.detail, detail);
            assert_eq!((problem.errors.len(), problem.errors[99].pointer.as_str()), (100, "/99"));
        }
    }

    #[test]
    fn names_are_distinct() {
        let mut names = Kind::ALL.map(Kind::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
