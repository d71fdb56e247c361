//! Preconditions (RFC 9110, section 13) and entity tags (section 8.8.3).
//!
//! The entity tag of an aggregate begins with its version: version 3 is `"3"`. A representation that shows more than the
//! aggregate, such as the author's name beside a post, has `"3.<digest>"`, so that the tag changes whenever the
//! representation does. `If-Match` compares only the part before the point: a change is based on a version of the aggregate,
//! and the author's new name must not refuse it.
//!
//! ```
//! use http::HeaderMap;
//! use kernel::precondition::{Preconditions, State, entity_tag};
//!
//! let mut headers = HeaderMap::new();
//! headers.insert("if-match", entity_tag(3));
//! let preconditions = Preconditions::read(&headers)?;
//! assert!(preconditions.require(3).is_ok());
//! assert_eq!(preconditions.require(4).unwrap_err().kind.status(), 412); // someone was faster
//! assert_eq!(Preconditions::default().require(3).unwrap_err().kind.status(), 428);
//! assert!(preconditions.check(State::Tagged(b"\"3.digest\"")).is_ok());
//! # Ok::<(), kernel::problem::Problem>(())
//! ```

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{IF_MATCH, IF_NONE_MATCH},
};
use sha2::{Digest, Sha256};

use crate::problem::{Kind, Problem};

/// The characters of a digest in an entity tag: 66 bits.
const DIGEST_LENGTH: usize = 11;

/// The `ETag` of a representation that shows the aggregate and nothing else.
pub fn entity_tag(version: u64) -> HeaderValue {
    quoted(&version.to_string())
}

/// The `ETag` of a representation that shows more than the aggregate, or less of it to some.
pub fn entity_tag_of_view(version: u64, representation: &[u8]) -> HeaderValue {
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(representation));
    quoted(&format!("{version}.{}", &digest[..DIGEST_LENGTH]))
}

fn quoted(opaque: &str) -> HeaderValue {
    // Digits, a point and base64url between quotes are always a valid header value.
    HeaderValue::from_str(&format!("\"{opaque}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// The target of a request, as preconditions see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// It does not exist.
    Absent,
    /// It exists and has no entity tag: a list, or an action.
    Untagged,
    /// It exists, with this entity tag.
    Tagged(&'a [u8]),
}

/// The preconditions of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// The value of a precondition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    /// `*`
    Any,
    /// Entity tags.
    List(Vec<Tag>),
}

/// An entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// What is between the quotes.
    opaque: Vec<u8>,
}

impl Preconditions {
    /// Reads `If-Match` and `If-None-Match`; 400 if one of them is malformed.
    pub fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            if_match: Tags::read(headers, &IF_MATCH)?,
            if_none_match: Tags::read(headers, &IF_NONE_MATCH)?,
        })
    }

    /// Whether the request may create something, but not replace it: `If-None-Match: *`. 412 with `If-Match` beside it, which
    /// requires something to exist: both can never be true.
    pub fn creates_only(&self) -> Result<bool, Problem> {
        match (&self.if_none_match, &self.if_match) {
            (Some(Tags::Any), Some(_)) => Err(exists()),
            (if_none_match, _) => Ok(*if_none_match == Some(Tags::Any)),
        }
    }

    /// Whether the request names the version that it is based on.
    pub fn names_a_version(&self) -> bool {
        self.if_match.is_some()
    }

    /// Evaluates the preconditions of a request that would change its target: 412 if one is false. `If-Match` comes first (RFC
    /// 9110, section 13.2.2).
    pub fn check(&self, target: State<'_>) -> Result<(), Problem> {
        self.check_if_match(target)?;
        match &self.if_none_match {
            Some(tags) if tags.match_version(target, Comparison::Weak) => Err(exists()),
            _ => Ok(()),
        }
    }

    /// Like [`Self::check`], for a change that has to name the version that it is based on: 428 without `If-Match`.
    pub fn require(&self, version: u64) -> Result<(), Problem> {
        self.check(State::Tagged(entity_tag(version).as_bytes()))?;
        if self.names_a_version() { Ok(()) } else { Err(required()) }
    }

    /// Evaluates the preconditions of a request that reads its target: 412 if `If-Match` is false; true if the client has the
    /// current representation, so that the answer is 304.
    pub fn is_current(&self, target: State<'_>) -> Result<bool, Problem> {
        self.check_if_match(target)?;
        Ok(self.if_none_match.as_ref().is_some_and(|tags| tags.name(target)))
    }

    fn check_if_match(&self, target: State<'_>) -> Result<(), Problem> {
        match &self.if_match {
            Some(tags) if !tags.match_version(target, Comparison::Strong) => Err(stale()),
            _ => Ok(()),
        }
    }
}

/// How two entity tags are compared (RFC 9110, section 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

impl Tags {
    /// Reads a header, whose lines form one list; 400 if it is malformed.
    fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Problem> {
        let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if lines.is_empty() {
            return Ok(None);
        }
        Self::parse(&lines.join(&b","[..])).map(Some).ok_or_else(|| {
            let name = if name == IF_MATCH { "If-Match" } else { "If-None-Match" };
            Problem::new(
                Kind::Unreadable,
                format!("the header {name} must be * or a list of entity tags in quotes, such as \"3\""),
            )
        })
    }

    /// Reads `*` or a list of entity tags. Elements of the list may be empty, but not all of them (RFC 9110, section 5.6.1).
    fn parse(value: &[u8]) -> Option<Self> {
        let mut left = value.trim_ascii();
        if left == b"*" {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        loop {
            left = left.trim_ascii_start();
            while let Some(rest) = left.strip_prefix(b",") {
                left = rest.trim_ascii_start();
            }
            if left.is_empty() {
                return (!tags.is_empty()).then_some(Self::List(tags));
            }
            let quoted = left.strip_prefix(b"W/");
            let opened = quoted.unwrap_or(left).strip_prefix(b"\"")?;
            let end = opened.iter().position(|byte| *byte == b'"')?;
            let (opaque, rest) = (&opened[..end], &opened[end + 1..]);
            if opaque.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
                return None;
            }
            tags.push(Tag { weak: quoted.is_some(), opaque: opaque.to_owned() });
            left = rest.trim_ascii_start();
            if !left.is_empty() && !left.starts_with(b",") {
                return None;
            }
        }
    }

    /// Whether they name the target's version: the part of its tag before the point.
    fn match_version(&self, target: State<'_>, comparison: Comparison) -> bool {
        self.any(target, |tag, current| {
            (comparison == Comparison::Weak || !tag.weak) && version(&tag.opaque) == version(current)
        })
    }

    /// Whether they name the target's representation. A weak tag does so too (RFC 9110, section 13.1.2).
    fn name(&self, target: State<'_>) -> bool {
        self.any(target, |tag, current| tag.opaque == current)
    }

    fn any(&self, target: State<'_>, matches: impl Fn(&Tag, &[u8]) -> bool) -> bool {
        match (self, target) {
            (_, State::Absent) | (Self::List(_), State::Untagged) => false,
            (Self::Any, _) => true,
            (Self::List(tags), State::Tagged(current)) => {
                let opaque = current.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
                tags.iter().any(|tag| matches(tag, opaque.unwrap_or(current)))
            }
        }
    }
}

/// The part of a tag before the point.
fn version(opaque: &[u8]) -> &[u8] {
    opaque.split(|byte| *byte == b'.').next().unwrap_or_default()
}

/// The answer to a change that does not name the version that it is based on. The answer does not name the current version
/// either: a client that sends it without having read that version would overwrite the changes of others.
pub fn required() -> Problem {
    Problem::new(Kind::VersionRequired, "send If-Match with the ETag of your last GET")
}

/// The answer to a request whose `If-Match` names another version than the current one: an older one, or one that never existed.
pub fn stale() -> Problem {
    Problem::new(
        Kind::StaleVersion,
        "If-Match does not name the current version; GET it, and repeat the request with the ETag of that answer",
    )
}

/// The answer to a change whose `If-None-Match` names what exists.
pub fn exists() -> Problem {
    Problem::new(
        Kind::StaleVersion,
        "If-None-Match names what exists already; to change it, send If-Match with the ETag of your last GET",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        headers
    }

    fn if_match(value: &str) -> Preconditions {
        Preconditions::read(&with("if-match", value)).unwrap()
    }

    fn if_none_match(value: &str) -> Preconditions {
        Preconditions::read(&with("if-none-match", value)).unwrap()
    }

    const CURRENT: State<'_> = State::Tagged(b"\"3.Zm9v\"");

    #[test]
    fn the_current_version_alone_in_a_list_or_any_passes() {
        for value in [
            "\"3\"",
            "\"1\", \"3\"",
            "\"1,2\",\"3\"",
            "*",
            "\"3\",",
            ",, \"3\" ,,",
            "\"3.Zm9v\"",
            "\"3.old\"",
        ] {
            assert!(if_match(value).require(3).is_ok(), "{value}");
            assert!(if_match(value).check(CURRENT).is_ok(), "{value}");
            assert!(!if_match(value).is_current(CURRENT).unwrap(), "{value}");
        }
    }

    #[test]
    fn another_version_or_a_weak_tag_is_stale() {
        for value in ["\"2\"", "W/\"3\"", "\"1\", \"2\"", "\"03\"", "\"\"", "\".3\"", "\"33\""] {
            let preconditions = if_match(value);
            assert_eq!(preconditions.require(3).unwrap_err().kind, Kind::StaleVersion, "{value}");
            assert_eq!(preconditions.is_current(CURRENT).unwrap_err().kind, Kind::StaleVersion, "{value}");
        }
    }

    #[test]
    fn a_change_must_name_its_version_in_if_match() {
        for preconditions in [Preconditions::default(), if_none_match("\"2\"")] {
            assert_eq!(preconditions.require(3).unwrap_err().kind, Kind::VersionRequired);
            assert!(preconditions.check(CURRENT).is_ok());
        }
    }

    #[test]
    fn a_malformed_condition_is_unreadable_and_not_ignored() {
        let malformed = [
            "3",
            "\"3",
            "",
            "'3'",
            "{}",
            "\"3\" \"4\"",
            ",",
            " , ,",
            "**",
            "*, *",
            "*,",
            "w/\"3\"",
            "\"\"\"",
            "\"a b\"",
        ];
        for value in malformed {
            for name in ["if-match", "if-none-match"] {
                let problem = Preconditions::read(&with(name, value)).unwrap_err();
                assert_eq!(problem.kind, Kind::Unreadable, "{name}: {value}");
            }
        }
    }

    #[test]
    fn the_lines_of_a_header_are_one_list() {
        let mut headers = with("if-match", "\"1\"");
        headers.append("if-match", HeaderValue::from_static("\"3\""));
        assert!(Preconditions::read(&headers).unwrap().require(3).is_ok());
        headers.append("if-match", HeaderValue::from_static("*"));
        assert_eq!(Preconditions::read(&headers).unwrap_err().kind, Kind::Unreadable);
    }

    #[test]
    fn a_client_that_has_the_representation_is_current_and_one_with_another_of_that_version_is_not() {
        for named in ["\"3.Zm9v\"", "W/\"3.Zm9v\"", "\"2\", \"3.Zm9v\"", "*"] {
            assert!(if_none_match(named).is_current(CURRENT).unwrap(), "{named}");
        }
        for named in ["\"3\"", "\"3.old\"", "\"2.Zm9v\"", "\"Zm9v\""] {
            assert!(!if_none_match(named).is_current(CURRENT).unwrap(), "{named}");
        }
    }

    #[test]
    fn if_none_match_refuses_a_change_of_what_it_names() {
        for named in ["*", "\"3\"", "W/\"3.old\"", "\"1\", \"3\""] {
            let problem = if_none_match(named).check(CURRENT).unwrap_err();
            assert_eq!(problem.kind, Kind::StaleVersion, "{named}");
            assert!(if_none_match(named).check(State::Absent).is_ok(), "{named}");
        }
        assert!(if_none_match("\"2\"").check(CURRENT).is_ok());
    }

    #[test]
    fn what_does_not_exist_matches_nothing_and_what_has_no_tag_only_any() {
        for value in ["*", "\"3\""] {
            assert_eq!(if_match(value).check(State::Absent).unwrap_err().kind, Kind::StaleVersion, "{value}");
        }
        assert!(if_match("*").check(State::Untagged).is_ok());
        assert!(if_match("\"3\"").check(State::Untagged).is_err());
        assert!(if_none_match("*").check(State::Untagged).is_err());
        assert!(if_none_match("\"3\"").check(State::Untagged).is_ok());
    }

    #[test]
    fn if_none_match_any_alone_creates_only_and_contradicts_if_match() {
        assert!(if_none_match("*").creates_only().unwrap());
        assert!(!if_none_match("\"3\"").creates_only().unwrap());
        assert!(!if_match("*").creates_only().unwrap());
        for value in ["\"3\"", "*"] {
            let mut headers = with("if-match", value);
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
            let both = Preconditions::read(&headers).unwrap();
            assert_eq!(both.creates_only().unwrap_err().kind, Kind::StaleVersion);
            for target in [State::Absent, State::Untagged, CURRENT] {
                assert_eq!(both.check(target).unwrap_err().kind, Kind::StaleVersion, "{value} {target:?}");
            }
        }
    }

    #[test]
    fn an_entity_tag_is_the_version_in_quotes_with_the_digest_of_what_else_is_shown() {
        assert_eq!(entity_tag(12), "\"12\"");
        assert_eq!(entity_tag_of_view(12, b"{}"), "\"12.RBNvo1WzZ4o\"");
        assert_ne!(entity_tag_of_view(12, b"{}"), entity_tag_of_view(12, b"[]"));
    }

    proptest! {
        /// Whatever is sent, it is read or refused, and a list of tags survives any white space and empty elements.
        #[test]
        fn any_bytes_are_read_or_refused(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(Tags::List(tags)) = Tags::parse(&value) {
                prop_assert!(!tags.is_empty());
            }
        }

        #[test]
        fn a_list_is_read_in_every_form(
            opaque in proptest::collection::vec(("[!#-~]{0,6}", any::<bool>(), "[ ,]{0,4}"), 1..5),
        ) {
            let parts = opaque.iter().map(|(text, weak, gap)| {
                format!("{gap}{}\"{text}\"", if *weak { "W/" } else { "" })
            });
            let list: Vec<Tag> = opaque.iter()
                .map(|(text, weak, _)| Tag { weak: *weak, opaque: text.clone().into_bytes() })
                .collect();
            let value = parts.collect::<Vec<_>>().join(",");
            prop_assert_eq!(Tags::parse(value.as_bytes()), Some(Tags::List(list)));
        }

        /// Preconditions pass for the version that they name and for no other.
        #[test]
        fn only_the_named_version_passes(named in 0_u64..50, current in 0_u64..50, shown in any::<[u8; 4]>()) {
            let tag = entity_tag_of_view(named, &shown);
            let preconditions = if_match(tag.to_str().unwrap());
            prop_assert_eq!(preconditions.require(current).is_ok(), named == current);
        }
    }
}
