//! Versions as entity tags (RFC 9110, sections 8.8.3 and 13.1).
//!
//! The entity tag of an aggregate is its version in quotes: version 3 is `"3"`. A change names in `If-Match` the version
//! that it is based on, so that two people who edit at once cannot overwrite each other.
//!
//! ```
//! use http::HeaderMap;
//! use kernel::precondition::{entity_tag, require_match};
//!
//! let mut headers = HeaderMap::new();
//! assert_eq!(require_match(&headers, 3).unwrap_err().kind.status(), 428);
//! headers.insert("if-match", entity_tag(3));
//! assert!(require_match(&headers, 3).is_ok());
//! assert_eq!(require_match(&headers, 4).unwrap_err().kind.status(), 412); // someone was faster
//! ```

use headers::{ETag, Header, HeaderMapExt, IfMatch};
use http::{HeaderMap, HeaderValue, header::IF_NONE_MATCH};

use crate::problem::{Kind, Problem};

/// The `ETag` of a version.
pub fn entity_tag(version: u64) -> HeaderValue {
    // Digits between quotes are always a valid header value.
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// Checks `If-Match` against the current version: 428 if it is missing, 412 if it names other versions only.
pub fn require_match(headers: &HeaderMap, current: u64) -> Result<(), Problem> {
    if !headers.contains_key(IfMatch::name()) {
        return Err(required());
    }
    let if_match = if_match(headers)?;
    let passes = format!("\"{current}\"").parse::<ETag>().is_ok_and(|tag| if_match.precondition_passes(&tag));
    if passes { Ok(()) } else { Err(stale()) }
}

/// Whether the request may create something, but not replace it: `If-None-Match: *`. `If-Match` beside it is a
/// contradiction, because that requires something to exist (RFC 9110, section 13.2.2). Any other value is refused: a
/// condition that was sent must not be ignored.
pub fn creates_only(headers: &HeaderMap) -> Result<bool, Problem> {
    let Some(value) = headers.get(IF_NONE_MATCH) else { return Ok(false) };
    if value.as_bytes() != b"*" {
        return Err(Problem::new(
            Kind::Unreadable,
            "the header If-None-Match must be *, which creates only; to change a version, send If-Match",
        ));
    }
    if headers.contains_key(IfMatch::name()) {
        if_match(headers)?;
        return Err(Problem::new(
            Kind::StaleVersion,
            "If-None-Match: * creates what does not exist, If-Match changes what exists: send one of them",
        ));
    }
    Ok(true)
}

fn if_match(headers: &HeaderMap) -> Result<IfMatch, Problem> {
    let well_formed = headers.get_all(IfMatch::name()).iter().all(|value| is_list_of_tags(value.as_bytes()));
    headers.typed_get().filter(|_| well_formed).ok_or_else(|| {
        Problem::new(Kind::Unreadable, "the header If-Match is not a list of entity tags in quotes")
    })
}

/// Whether a header's value is `*` or a list of entity tags, which [`IfMatch`] itself does not check.
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

/// The answer to a change that does not name the version that it is based on. The answer does not name the current version
/// either: a client that sends it without having read that version would overwrite the changes of others.
pub fn required() -> Problem {
    Problem::new(Kind::VersionRequired, "send If-Match with the ETag of your last GET")
}

/// The answer to a change that is based on another version than the current one: an older one, or one that never existed.
pub fn stale() -> Problem {
    Problem::new(
        Kind::StaleVersion,
        "If-Match does not name the current version; GET it, and repeat the change with the ETag of that answer",
    )
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
    fn a_missing_if_match_is_required_and_a_malformed_one_unreadable() {
        assert_eq!(require_match(&HeaderMap::new(), 3).unwrap_err().kind, Kind::VersionRequired);
        for value in ["3", "\"3", "", "'3'", "{}", "\"3\" \"4\"", "\"3\",", "**", "w/\"3\"", "\"\"\""] {
            assert_eq!(require_match(&with(value), 3).unwrap_err().kind, Kind::Unreadable, "{value}");
        }
    }

    #[test]
    fn if_none_match_creates_only_and_contradicts_if_match() {
        assert!(!creates_only(&HeaderMap::new()).unwrap());
        assert!(!creates_only(&with("\"3\"")).unwrap());
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert!(creates_only(&headers).unwrap());
        for (value, kind) in
            [("\"3\"", Kind::StaleVersion), ("*", Kind::StaleVersion), ("3", Kind::Unreadable)]
        {
            headers.insert(IfMatch::name(), HeaderValue::from_static(value));
            assert_eq!(creates_only(&headers).unwrap_err().kind, kind, "{value}");
        }
    }

    #[test]
    fn a_condition_that_cannot_be_evaluated_is_refused_and_not_ignored() {
        for value in ["\"3\"", "L.", "", "*, *", "\"*\""] {
            let mut headers = with("*");
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(value));
            assert_eq!(creates_only(&headers).unwrap_err().kind, Kind::Unreadable, "{value}");
        }
    }

    #[test]
    fn an_entity_tag_is_the_version_in_quotes() {
        assert_eq!(entity_tag(12), "\"12\"");
    }
}
