//! Identifiers.

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// A new identifier: a UUIDv7 (RFC 9562, section 5.7) of this moment.
pub fn new() -> Uuid {
    Uuid::now_v7()
}

/// The identifier that the given parts always lead to: SHA-256 of the parts, in the layout of a UUIDv7.
///
/// A repeated request thereby finds what the first one made, without a table of keys. The timestamp
/// field holds digest bits too: a time in it would differ on each repeat. So no order may be read from an
/// identifier; lists are ordered by the time stored beside it.
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
    fn the_same_parts_lead_to_the_same_id_and_others_to_another() {
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
