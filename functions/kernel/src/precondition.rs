//! Versions as entity tags (RFC 9110, sections 8.8.3 and 13.1).
//!
//! A thing's entity tag is its version in quotes: version 3 is `"3"`. A change says with `If-Match`
//! which version it was made from, so that two people who edit at once cannot overwrite each other.

use headers::{ETag, Header, HeaderMapExt, IfMatch};
use http::{HeaderMap, HeaderValue};

use crate::problem::{Kind, Problem};

/// The `ETag` of a version.
pub fn entity_tag(version: u64) -> HeaderValue {
    // Digits between quotes are always a valid header value.
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// Checks `If-Match` against the current version: 428 where it is missing, 412 where it names others.
pub fn require_match(headers: &HeaderMap, current: u64) -> Result<(), Problem> {
    if !headers.contains_key(IfMatch::name()) {
        return Err(Problem::new(
            Kind::VersionRequired,
            "send the version you change in If-Match, as the ETag of a GET gave it: If-Match: \"3\"",
        ));
    }
    let well_formed = headers.get_all(IfMatch::name()).iter().all(|value| is_list_of_tags(value.as_bytes()));
    let Some(if_match) = headers.typed_get::<IfMatch>().filter(|_| well_formed) else {
        return Err(Problem::new(
            Kind::Unreadable,
            "the header If-Match is not a list of entity tags in quotes",
        ));
    };
    let passes = format!("\"{current}\"").parse::<ETag>().is_ok_and(|tag| if_match.precondition_passes(&tag));
    if passes { Ok(()) } else { Err(stale()) }
}

/// Whether a header's value is `*` or a list of entity tags, which [`IfMatch`] itself does not ask.
fn is_list_of_tags(value: &[u8]) -> bool {
    let mut left = value.trim_ascii();
    if left == b"*" {
        return true;
    }
    loop {
        let Some(opened) = left.strip_prefix(b"W/").unwrap_or(left).strip_prefix(b"\"") else { return false };
        let Some(end) = opened.iter().position(|byte| *byte == b'"') else { return false };
        if opened[..end].iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return false;
        }
        left = opened[end + 1..].trim_ascii_start();
        match left.strip_prefix(b",") {
            Some(rest) => left = rest.trim_ascii_start(),
            None => return left.is_empty(),
        }
    }
}

/// The answer to a change made from another version than the current one.
pub fn stale() -> Problem {
    Problem::new(Kind::StaleVersion, "it has changed since that version; read it again and repeat the change")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("if-match", HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn the_current_version_alone_in_a_list_or_any_passes() {
        for value in ["\"3\"", "\"1\", \"3\"", "\"1,2\",\"3\"", "*"] {
            assert!(require_match(&with(value), 3).is_ok(), "{value}");
        }
    }

    #[test]
    fn another_version_or_a_weak_tag_is_stale() {
        for value in ["\"2\"", "W/\"3\"", "\"1\", \"2\""] {
            assert_eq!(require_match(&with(value), 3).unwrap_err().kind, Kind::StaleVersion, "{value}");
        }
    }

    #[test]
    fn a_missing_header_is_required_and_rubbish_never_passes() {
        assert_eq!(require_match(&HeaderMap::new(), 3).unwrap_err().kind, Kind::VersionRequired);
        for value in ["3", "\"3", "", "'3'", "{}", "\"3\" \"4\"", "\"3\",", "**", "w/\"3\"", "\"\"\""] {
            assert_eq!(require_match(&with(value), 3).unwrap_err().kind, Kind::Unreadable, "{value}");
        }
    }

    #[test]
    fn an_entity_tag_is_the_version_in_quotes() {
        assert_eq!(entity_tag(12), "\"12\"");
    }
}
