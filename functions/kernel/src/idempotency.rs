//! Idempotent creation, after the IETF draft "The Idempotency-Key HTTP Header Field".
//!
//! The identifier of the entity that a request creates is derived from (user, endpoint, key), and the entity stores a
//! digest of the request. Creation is one conditional write. If the entity exists already, the digest tells a repeat from
//! another request with the same key. The entity is its own idempotency record: there is no lock that could expire, and
//! nothing that could stay "in progress".
//!
//! ```
//! use kernel::idempotency::{IdempotencyKey, creation_id, digest};
//! use uuid::Uuid;
//!
//! let (user, key) = (Uuid::from_u128(1), IdempotencyKey::parse(b"\"order-7\"")?);
//! let first = creation_id(user, "POST /orders", Some(&key));
//! let repeat = creation_id(user, "POST /orders", Some(&key));
//! assert_eq!(first, repeat);
//! // The second write finds the first one's order under that id. The digests tell whether it is the same request.
//! assert_ne!(digest(&["tea"]), digest(&["coffee"]));
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
    /// Reads the header's value. The draft makes it a structured-field string, in double quotes; a bare
    /// value, which many clients send, is taken as well.
    pub fn parse(value: &[u8]) -> Result<Self, Problem> {
        let key = std::str::from_utf8(value).unwrap_or_default().trim();
        let quoted = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
        let opens = quoted.is_none() && key.starts_with('"');
        let key = quoted.unwrap_or(key);
        if (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) && !opens {
            Ok(Self(key.to_owned()))
        } else {
            Err(Problem::new(
                Kind::Unreadable,
                "the header Idempotency-Key must have 1 to 255 visible ASCII characters",
            ))
        }
    }
}

impl IdempotencyKey {
    /// A digest of the key, for entities whose identifier cannot be derived from it.
    pub fn digest(&self) -> String {
        digest(&self.0)
    }
}

/// The identifier of the entity that a request creates: derived from the key if there is one, otherwise new.
pub fn creation_id(user: Uuid, endpoint: &str, key: Option<&IdempotencyKey>) -> Uuid {
    match key {
        Some(IdempotencyKey(key)) => id::derived(&[user.as_bytes(), endpoint.as_bytes(), key.as_bytes()]),
        None => id::new(),
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
    }

    #[test]
    fn an_empty_over_long_or_invisible_key_is_refused() {
        for bad in ["", "\"\"", "\"", "\"a", "a b", "a\u{7f}", "ключ", &"k".repeat(256)] {
            assert_eq!(IdempotencyKey::parse(bad.as_bytes()).unwrap_err().kind, Kind::Unreadable, "{bad:?}");
        }
    }

    #[test]
    fn an_id_depends_on_user_endpoint_and_key() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let key = IdempotencyKey::parse(b"k").unwrap();
        let id = creation_id(one, "POST /posts", Some(&key));
        assert_eq!(id, creation_id(one, "POST /posts", Some(&key)));
        assert_ne!(id, creation_id(two, "POST /posts", Some(&key)));
        assert_ne!(id, creation_id(one, "POST /orders", Some(&key)));
        assert_ne!(creation_id(one, "POST /posts", None), creation_id(one, "POST /posts", None));
    }
}
