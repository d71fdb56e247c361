//! Reads JSON from clients.
//!
//! RFC 8259 leaves open what a member's name that occurs twice means, and readers differ: whoever checks the first and uses the
//! last can be fooled. RFC 7493 (I-JSON, section 2.3) forbids it, and so does [`read`]. `serde_json` alone keeps the last one.

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::problem::{Kind, Problem};

/// Maximum characters of a name in an error.
const SHOWN: usize = 100;

/// Reads one JSON value; 400 if the bytes are not UTF-8 or not JSON, or if an object has two members of one name.
///
/// ```
/// use kernel::json;
///
/// assert_eq!(json::read(br#"{"a": [1]}"#)?["a"][0], 1);
/// let problem = json::read(br#"{"a": 1, "a": 2}"#).unwrap_err();
/// assert_eq!(problem.detail, "the body names the member \"a\" twice (line 1, column 12)");
/// # Ok::<(), kernel::problem::Problem>(())
/// ```
pub fn read(bytes: &[u8]) -> Result<Value, Problem> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Problem::new(Kind::Unreadable, "the body is not UTF-8"))?;
    let twice = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Unique(&twice).deserialize(&mut deserializer);
    let read = read.and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| match twice.take() {
        // As JSON, so that quotes and control characters in the name are visible.
        Some(name) => Problem::new(
            Kind::Unreadable,
            format!(
                "the body names the member {} twice (line {}, column {})",
                Value::from(name.chars().take(SHOWN).collect::<String>()),
                error.line(),
                error.column()
            ),
        ),
        None => Problem::malformed_json(error.line(), error.column()),
    })
}

/// Reads a value whose objects have no name twice; notes the name otherwise.
#[derive(Clone, Copy)]
struct Unique<'a>(&'a RefCell<Option<String>>);

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                self.0.replace(Some(name));
                return Err(A::Error::custom("a member's name occurs twice"));
            }
            object.insert(name, members.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_occurs_twice_is_unreadable_at_every_depth_and_in_every_spelling() {
        for body in [
            r#"{"title":5,"body":"b","title":"ok"}"#,
            r#"{"title":"ok","title":"ok"}"#,
            r#"[{"b": {"title": 1, "a": 2, "title": 3}}]"#,
            r#"{"title": 1, "t\u0069tle": 2}"#,
        ] {
            let problem = read(body.as_bytes()).unwrap_err();
            assert_eq!(problem.kind, Kind::Unreadable);
            assert!(
                problem.detail.starts_with("the body names the member \"title\" twice"),
                "{}",
                problem.detail
            );
        }
        assert!(read(br#"{"a": {"a": {"a": 1}}, "b": [{"a": 1}, {"a": 2}]}"#).is_ok());
    }

    #[test]
    fn a_long_name_is_cut_and_its_control_characters_are_escaped() {
        let name = format!("\\n{}", "é".repeat(500));
        let problem = read(format!(r#"{{"{name}": 1, "{name}": 2}}"#).as_bytes()).unwrap_err();
        let expected = format!("the body names the member \"\\n{}\" twice", "é".repeat(99));
        assert!(problem.detail.starts_with(&expected), "{}", problem.detail);
    }

    #[test]
    fn what_is_not_one_json_value_is_unreadable() {
        for body in [
            &b"{"[..],
            b"",
            b"\xff",
            b"{\"a\": \"caf\xe9\"}",
            b"{} {}",
            b"\"\\ud800\"",
            b"1e999",
            b"nul",
            b"\xef\xbb\xbf{}",
        ] {
            assert_eq!(read(body).unwrap_err().kind, Kind::Unreadable, "{body:?}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::hash_map("\\PC{0,6}", inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in values()) {
            prop_assert_eq!(read(value.to_string().as_bytes()).unwrap(), value);
        }

        #[test]
        fn any_bytes_are_read_as_serde_json_reads_them_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            match read(&bytes) {
                Ok(value) => prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), value),
                Err(problem) => prop_assert_eq!(problem.kind, Kind::Unreadable),
            }
        }

        #[test]
        fn a_member_added_again_makes_an_object_unreadable(
            members in proptest::collection::hash_map("[a-z]{1,6}", values(), 1..6), repeated in any::<proptest::sample::Index>(),
        ) {
            let names: Vec<&String> = members.keys().collect();
            let name = names[repeated.index(names.len())];
            let object = serde_json::to_string(&members).unwrap();
            let body = format!("{}, {}: null}}", object.strip_suffix('}').unwrap(), Value::from(name.as_str()));
            prop_assert!(read(body.as_bytes()).unwrap_err().detail.contains("twice"));
        }
    }
}
