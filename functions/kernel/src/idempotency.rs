//! Idempotent creation, after the IETF draft "The Idempotency-Key HTTP Header Field".
//!
//! The identifier of the entity that a request creates is derived from (user, endpoint, key), and the entity stores a
//! digest of the request. Creation is one conditional write. If the entity exists already, the digest distinguishes a
//! repeat from another request with the same key. The entity is its own idempotency record: there is no lock that could expire, and
//! nothing that could stay "in progress".
//!
//! ```
//! use kernel::idempotency::{CreationRequest, IdempotencyKey};
//! use uuid::Uuid;
//!
//! let (user, key) = (Uuid::from_u128(1), IdempotencyKey::parse(b"\"order-7\"")?);
//! let first = CreationRequest::new(user, "POST /orders", Some(&key), &["tea"]);
//! let repeat = CreationRequest::new(user, "POST /orders", Some(&key), &["tea"]);
//! assert_eq!(first, repeat);
//! // The second write finds the first one's order under the same id. The digests show whether it is the same request.
//! let other = CreationRequest::new(user, "POST /orders", Some(&key), &["coffee"]);
//! assert_eq!(first.id(), other.id());
//! assert_ne!(first.digest(), other.digest());
//! # Ok::<(), kernel::problem::Problem>(())
//! ```

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    id,
    problem::{Kind, Problem},
};

/// The name of the header.
pub const HEADER: &str = "idempotency-key";

/// A client's key for one request: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the header's value. The draft makes it a structured field (RFC 9651), a string in double quotes; a bare value, which
    /// many clients send, is accepted too.
    pub fn parse(value: &[u8]) -> Result<Self, Problem> {
        let value = value.trim_ascii();
        let key = if value.starts_with(b"\"") {
            structured_string(value)
        } else {
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        let visible = |key: &String| key.bytes().all(|byte| byte.is_ascii_graphic());
        key.filter(|key| (1..=255).contains(&key.len()) && visible(key)).map(Self).ok_or_else(|| {
            Problem::new(
                Kind::Unreadable,
                "the header Idempotency-Key must have 1 to 255 visible ASCII characters",
            )
        })
    }

    /// A digest of the key, for entities whose identifier cannot be derived from it.
    pub fn digest(&self) -> String {
        digest(&self.0)
    }
}

fn structured_string(value: &[u8]) -> Option<String> {
    match sfv::Parser::new(value).parse::<sfv::Item>().ok()?.bare_item {
        sfv::BareItem::String(text) => Some(text.into()),
        _ => None,
    }
}

/// A request that creates something: the id of what it creates, and a digest of what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreationRequest {
    id: Uuid,
    digest: String,
}

impl CreationRequest {
    /// A request of a user to an endpoint, with its validated content. The id is derived from the key if there is one, otherwise
    /// new. `endpoint` is the method and the path with its ids; changing it gives every key a new id.
    pub fn new(user: Uuid, endpoint: &str, key: Option<&IdempotencyKey>, content: &impl Serialize) -> Self {
        let id = match key {
            Some(IdempotencyKey(key)) => id::derived(&[user.as_bytes(), endpoint.as_bytes(), key.as_bytes()]),
            None => id::new(),
        };
        Self { id, digest: digest(content) }
    }

    /// The id of what it creates.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The digest of its content.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// A digest of a request: SHA-256 of its validated form as JSON, in unpadded base64url.
///
/// White space and the order of fields make no difference, because the request has been parsed into a type.
pub fn digest(request: &impl Serialize) -> String {
    // Serialising a plain struct of strings and numbers into memory does not fail.
    let bytes = serde_json::to_vec(request).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))
}

/// The answer to a key that was used before with another request.
pub fn reused() -> Problem {
    Problem::new(
        Kind::IdempotencyKeyReused,
        "this Idempotency-Key was used before with another body; send a new key with a new request",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_with_and_without_quotes() {
        assert_eq!(
            IdempotencyKey::parse(b"\"8e03978e-40d5\"").unwrap(),
            IdempotencyKey::parse(b"8e03978e-40d5").unwrap()
        );
        assert_eq!(
            IdempotencyKey::parse(br#""a\"b\\c""#).unwrap(),
            IdempotencyKey::parse(br#"a"b\c"#).unwrap()
        );
    }

    #[test]
    fn an_empty_too_long_or_malformed_key_is_refused() {
        for bad in
            ["", "\"\"", "\"", "\"a", "\"a\"b\"", r#""a\b""#, "a b", "a\u{7f}", "ключ", &"k".repeat(256)]
        {
            assert_eq!(IdempotencyKey::parse(bad.as_bytes()).unwrap_err().kind, Kind::Unreadable, "{bad:?}");
        }
    }

    #[test]
    fn an_id_depends_on_user_endpoint_and_key() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let key = IdempotencyKey::parse(b"k").unwrap();
        let id = |user, endpoint, key| CreationRequest::new(user, endpoint, key, &"It rains.").id();
        let first = id(one, "POST /posts", Some(&key));
        assert_eq!(first, id(one, "POST /posts", Some(&key)));
        assert_ne!(first, id(two, "POST /posts", Some(&key)));
        assert_ne!(first, id(one, "POST /orders", Some(&key)));
        assert_ne!(id(one, "POST /posts", None), id(one, "POST /posts", None));
    }
}
