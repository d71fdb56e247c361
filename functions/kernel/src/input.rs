//! Reading a JSON body field by field.
//!
//! `serde` stops at the first mistake and does not know the pointer of a missing field, but a client should get the whole
//! list. [`Fields`] reads the fields one by one, collects what is wrong with each, and rejects unknown fields.
//!
//! ```
//! use kernel::{input::Fields, text::Line};
//!
//! let mut fields = Fields::read(br#"{"name": "", "age": 7}"#)?;
//! let name = fields.required::<Line<80>>("name");
//! let problem = fields.finish(name).unwrap_err();
//! assert_eq!(problem.errors[0].pointer, "/name");
//! assert_eq!(problem.errors[1].pointer, "/age");
//! # Ok::<(), kernel::problem::Problem>(())
//! ```

use serde_json::{Map, Value};

use crate::{
    json,
    problem::{FieldError, Problem},
};

/// A type that a field of a body can be read into.
pub trait FromField: Sized {
    /// Reads the value; the error says what is wrong with it.
    fn from_field(value: Value) -> Result<Self, Invalid>;
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The field itself.
    Itself(String),
    /// Fields of the object, or items of the array, in it. Their pointers are relative to it.
    Inside(Vec<FieldError>),
}

impl Invalid {
    /// The field itself is wrong.
    pub fn new(detail: impl Into<String>) -> Self {
        Self::Itself(detail.into())
    }

    /// What is wrong, with pointers from the root of the body. The field itself is at `pointer`.
    fn at(self, pointer: &str) -> Vec<FieldError> {
        match self {
            Self::Itself(detail) => vec![FieldError { pointer: pointer.to_owned(), detail }],
            Self::Inside(errors) => errors
                .into_iter()
                .map(|error| FieldError { pointer: format!("{pointer}{}", error.pointer), ..error })
                .collect(),
        }
    }
}

impl FromField for String {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(Invalid::new(format!("must be a string, not {}", name_of(&other)))),
        }
    }
}

impl FromField for bool {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        let name = name_of(&value);
        value.as_bool().ok_or_else(|| Invalid::new(format!("must be true or false, not {name}")))
    }
}

/// A whole number. `3.0` is one too: JSON Schema says so, and some languages write integers like that. Beyond 2^53 such a
/// number would not be exact.
pub fn whole(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < EXACT)?;
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and fits")]
        Some(number as i64)
    })
}

/// Reads every item of an array, and reports each mistake at its index.
impl<T: FromField> FromField for Vec<T> {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        let Value::Array(values) = value else {
            return Err(Invalid::new(format!("must be an array, not {}", name_of(&value))));
        };
        let (mut items, mut errors) = (Self::new(), Vec::new());
        for (index, value) in values.into_iter().enumerate() {
            match T::from_field(value) {
                Ok(item) => items.push(item),
                Err(invalid) => errors.extend(invalid.at(&format!("/{index}"))),
            }
        }
        if errors.is_empty() { Ok(items) } else { Err(Invalid::Inside(errors)) }
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The fields of a JSON object that are still to be read, and the mistakes found so far.
#[derive(Debug)]
pub struct Fields {
    left: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Reads a body: 400 if it is not UTF-8, not JSON, or names a member of an object twice; 422 if it is not an object.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        Self::of(json::read(body)?).map_err(|invalid| Problem::invalid(invalid.at("")))
    }

    /// The fields of an object inside a body.
    pub fn of(value: Value) -> Result<Self, Invalid> {
        match value {
            Value::Object(left) => Ok(Self { left, errors: Vec::new() }),
            other => Err(Invalid::new(format!("must be an object, not {}", name_of(&other)))),
        }
    }

    /// Reads a required field: `None` if it is missing or invalid.
    pub fn required<T: FromField>(&mut self, name: &str) -> Option<T> {
        match self.left.remove(name) {
            Some(value) => self.check(name, T::from_field(value)),
            None => self.check(name, Err(Invalid::new("is required"))),
        }
    }

    /// Reads an optional field: `Some(None)` if it is missing, `None` if it is invalid.
    #[allow(clippy::option_option, reason = "invalid, missing and present are three things")]
    pub fn optional<T: FromField>(&mut self, name: &str) -> Option<Option<T>> {
        match self.left.remove(name) {
            Some(value) => self.check(name, T::from_field(value)).map(Some),
            None => Some(None),
        }
    }

    fn check<T>(&mut self, name: &str, read: Result<T, Invalid>) -> Option<T> {
        read.map_err(|invalid| self.errors.extend(invalid.at(&pointer(name)))).ok()
    }

    /// Returns what was read if all of it is valid and the body has no other field; 422 otherwise.
    pub fn finish<T: Complete>(self, read: T) -> Result<T::Values, Problem> {
        self.complete(read).map_err(|invalid| Problem::invalid(invalid.at("")))
    }

    /// Like [`Self::finish`], for an object inside a body.
    pub fn complete<T: Complete>(mut self, read: T) -> Result<T::Values, Invalid> {
        self.errors.extend(self.left.keys().map(|name| FieldError {
            pointer: pointer(name),
            detail: "is not a field of this request".to_owned(),
        }));
        match read.complete() {
            Some(values) if self.errors.is_empty() => Ok(values),
            _ => Err(Invalid::Inside(self.errors)),
        }
    }
}

/// The JSON pointer of a field of the body (RFC 6901, section 3), or of a query parameter. A name is cut after 100 characters.
pub fn pointer(name: &str) -> String {
    let name: String = name.chars().take(100).collect();
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// One or more fields as [`Fields::required`] returns them.
pub trait Complete {
    /// The fields' values.
    type Values;
    /// All values, or `None` if one is missing.
    fn complete(self) -> Option<Self::Values>;
}

impl<A> Complete for Option<A> {
    type Values = A;
    fn complete(self) -> Option<A> {
        self
    }
}

impl<A, B> Complete for (Option<A>, Option<B>) {
    type Values = (A, B);
    fn complete(self) -> Option<(A, B)> {
        self.0.zip(self.1)
    }
}

impl<A, B, C> Complete for (Option<A>, Option<B>, Option<C>) {
    type Values = (A, B, C);
    fn complete(self) -> Option<(A, B, C)> {
        Some((self.0?, self.1?, self.2?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Kind;

    fn errors_of(body: &str) -> Vec<(String, String)> {
        let mut fields = Fields::read(body.as_bytes()).unwrap();
        let read = (fields.required::<String>("a"), fields.required::<bool>("b"));
        let problem = fields.finish(read).unwrap_err();
        assert_eq!(problem.kind, Kind::Invalid);
        problem.errors.into_iter().map(|error| (error.pointer, error.detail)).collect()
    }

    #[test]
    fn every_mistake_is_reported_at_its_pointer() {
        assert_eq!(
            errors_of(r#"{"a": 1, "x/y": 2}"#),
            [
                ("/a".to_owned(), "must be a string, not a number".to_owned()),
                ("/b".to_owned(), "is required".to_owned()),
                ("/x~1y".to_owned(), "is not a field of this request".to_owned()),
            ]
        );
    }

    #[test]
    fn a_complete_body_is_read() {
        let mut fields = Fields::read(br#"{"b": true, "a": "x"}"#).unwrap();
        let read = (fields.required::<String>("a"), fields.required::<bool>("b"));
        assert_eq!(fields.finish(read).unwrap(), ("x".to_owned(), true));
    }

    #[test]
    fn mistakes_inside_an_array_are_reported_at_their_indexes() {
        let mut fields = Fields::read(br#"{"names": ["x", 1, null]}"#).unwrap();
        let names = fields.required::<Vec<String>>("names");
        let errors = fields.finish(names).unwrap_err().errors;
        let pointers: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/names/1", "/names/2"]);
    }

    #[test]
    fn what_is_not_json_is_unreadable_and_what_is_not_an_object_is_invalid() {
        for body in [&b"{"[..], b"", b"\xff", b"{\"a\": \"\xc3\"}", b"{} {}"] {
            assert_eq!(Fields::read(body).unwrap_err().kind, Kind::Unreadable);
        }
        for body in [&b"[]"[..], b"null", b"3", b"\"a\""] {
            assert_eq!(Fields::read(body).unwrap_err().kind, Kind::Invalid);
        }
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        for (number, expected) in [
            (serde_json::json!(934), Some(934)),
            (serde_json::json!(934.0), Some(934)),
            (serde_json::json!(-1e3), Some(-1000)),
            (serde_json::json!(i64::MAX), Some(i64::MAX)),
            (serde_json::json!(1.5), None),
            (serde_json::json!(1e30), None),
            (serde_json::json!(9_007_199_254_740_992.0), None),
            (serde_json::json!(u64::MAX), None),
            (serde_json::json!("1"), None),
        ] {
            assert_eq!(whole(&number), expected, "{number}");
        }
    }

    #[test]
    fn deep_nesting_is_unreadable_rather_than_a_stack_overflow() {
        let body = "[".repeat(100_000);
        assert_eq!(Fields::read(body.as_bytes()).unwrap_err().kind, Kind::Unreadable);
    }
}
