//! Reading a JSON body field by field.
//!
//! `serde` stops at the first mistake and cannot tell the pointer of a missing field; a client deserves
//! the whole list. [`Fields`] takes the fields one by one, notes what is wrong with each and complains
//! about those nobody asked for.
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

use crate::problem::{FieldError, Kind, Problem};

/// A type that a field of a body can be read into.
pub trait FromField: Sized {
    /// Takes the value, or says what is wrong with it.
    fn from_field(value: Value) -> Result<Self, String>;
}

impl FromField for String {
    fn from_field(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(format!("must be a string, not {}", name_of(&other))),
        }
    }
}

impl FromField for bool {
    fn from_field(value: Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| format!("must be true or false, not {}", name_of(&value)))
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
    /// Reads a body: 400 where it is not UTF-8 or not JSON, 422 where it is not an object.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        let text =
            std::str::from_utf8(body).map_err(|_| Problem::new(Kind::Unreadable, "the body is not UTF-8"))?;
        let value = serde_json::from_str(text).map_err(|error| {
            // Line and column are safe to tell; serde_json's full message could quote the body.
            let (line, column) = (error.line(), error.column());
            Problem::new(Kind::Unreadable, format!("the body is not JSON (line {line}, column {column})"))
        })?;
        match value {
            Value::Object(left) => Ok(Self { left, errors: Vec::new() }),
            other => Err(Problem::invalid_field("", format!("must be an object, not {}", name_of(&other)))),
        }
    }

    /// Takes a field that must be there.
    pub fn required<T: FromField>(&mut self, name: &str) -> Option<T> {
        match self.left.remove(name) {
            Some(value) => self.check(name, T::from_field(value)),
            None => self.check(name, Err("is required".to_owned())),
        }
    }

    /// Takes a field that may be missing: `Some(None)` where it is.
    #[allow(clippy::option_option, reason = "invalid, missing and there are three things")]
    pub fn optional<T: FromField>(&mut self, name: &str) -> Option<Option<T>> {
        match self.left.remove(name) {
            Some(value) => self.check(name, T::from_field(value)).map(Some),
            None => Some(None),
        }
    }

    fn check<T>(&mut self, name: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|detail| self.errors.push(FieldError { pointer: pointer(name), detail })).ok()
    }

    /// Gives back what was read when all of it was valid and nothing else was sent; 422 otherwise.
    pub fn finish<T: Complete>(mut self, read: T) -> Result<T::Values, Problem> {
        self.errors.extend(self.left.keys().map(|name| FieldError {
            pointer: pointer(name),
            detail: "is not a field of this request".to_owned(),
        }));
        match read.complete() {
            Some(values) if self.errors.is_empty() => Ok(values),
            _ => Err(Problem::invalid(self.errors)),
        }
    }
}

/// The JSON pointer of a field of the body (RFC 6901, section 3), cut where a name is absurdly long.
fn pointer(name: &str) -> String {
    let name: String = name.chars().take(100).collect();
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Fields as [`Fields::required`] gives them, which together make a request once all are there.
pub trait Complete {
    /// The fields' values.
    type Values;
    /// All values, or none where one is missing.
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_not_json_is_unreadable_and_what_is_not_an_object_is_invalid() {
        for body in [&b"{"[..], b"", b"\xff", b"{\"a\": \"\xc3\"}", b"{} {}"] {
            assert_eq!(Fields::read(body).unwrap_err().kind, Kind::Unreadable);
        }
        for body in [&b"[]"[..], b"null", b"3", b"\"a\""] {
            assert_eq!(Fields::read(body).unwrap_err().kind, Kind::Invalid);
        }
    }

    #[test]
    fn deep_nesting_is_unreadable_rather_than_a_stack_overflow() {
        let body = "[".repeat(100_000);
        assert_eq!(Fields::read(body.as_bytes()).unwrap_err().kind, Kind::Unreadable);
    }
}
