//! Identifiers.

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// A new identifier: a UUIDv7 (RFC 9562, section 5.7) of this moment.
pub fn new() -> Uuid {
    Uuid::now_v7()
}

/// An identifier derived from the given parts: SHA-256 of the parts, in the layout of a UUIDv7. The same parts always give
/// the same identifier.
///
/// RFC 9562 reserves version 8 for such layouts (section 5.8). It is 7 nevertheless: the API promises one version for all of its
/// identifiers, a client must not be able to tell whether a key was sent, and another version would give every key of a
/// request that is repeated across a deployment a new identifier, which creates the thing twice.
///
/// So a repeated request finds what the first one created, without a table of keys. The timestamp field holds digest bits
/// too, because a time in it would differ on each repeat. Identifiers therefore have no order; lists are ordered by the time
/// that is stored beside them.
pub fn derived(parts: &[&[u8]]) -> Uuid {
    let mut digest = Sha256::new();
    for part in parts {
        // The length in front keeps ("ab", "c") apart from ("a", "bc").
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_bytes(bytes)
        .with_version(uuid::Version::SortRand)
        .with_variant(uuid::Variant::RFC4122)
        .into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_give_the_same_id_and_other_parts_another() {
        assert_eq!(derived(&[b"user", b"key"]), derived(&[b"user", b"key"]));
        assert_ne!(derived(&[b"user", b"key"]), derived(&[b"user", b"other"]));
        assert_ne!(derived(&[b"ab", b"c"]), derived(&[b"a", b"bc"]));
    }

    #[test]
    fn both_kinds_have_version_seven() {
        assert_eq!(new().get_version_num(), 7);
        assert_eq!(derived(&[b"any"]).get_version_num(), 7);
        assert_eq!(derived(&[b"any"]).get_variant(), uuid::Variant::RFC4122);
    }
}
