//! Text that is not blank, not too long and free of control characters. Otherwise it is kept exactly as it was sent, with
//! emoji, right-to-left marks and white space, and is not normalised.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::input::{FromField, Invalid};

/// One line of text: 1 to `MAX` characters (Unicode scalar values), not blank, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Line<const MAX: usize>(String);

/// Text of several lines: 1 to `MAX` bytes of UTF-8, not blank, no control characters but line breaks and tabs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prose<const MAX: usize>(String);

impl<const MAX: usize> Line<MAX> {
    /// Checks the text, or says what is wrong with it.
    pub fn parse(text: String) -> Result<Self, String> {
        if text.trim().is_empty() {
            Err("must not be blank".to_owned())
        } else if text.chars().count() > MAX {
            Err(format!("must have at most {MAX} characters"))
        } else if text.chars().any(char::is_control) {
            Err("must be one line without control characters".to_owned())
        } else {
            Ok(Self(text))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> Prose<MAX> {
    /// Checks the text, or says what is wrong with it.
    pub fn parse(text: String) -> Result<Self, String> {
        if text.trim().is_empty() {
            Err("must not be blank".to_owned())
        } else if text.len() > MAX {
            Err(format!("must have at most {MAX} bytes of UTF-8"))
        } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            Err("must have no control characters but line breaks and tabs".to_owned())
        } else {
            Ok(Self(text))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> FromField for Line<MAX> {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        String::from_field(value).and_then(|text| Self::parse(text).map_err(Invalid::Itself))
    }
}

impl<const MAX: usize> FromField for Prose<MAX> {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        String::from_field(value).and_then(|text| Self::parse(text).map_err(Invalid::Itself))
    }
}

/// The JSON Schema of texts: what [`Line::parse`] and [`Prose::parse`] check.
#[cfg(feature = "contract")]
mod contract {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{Line, Prose};

    /// Requires one character that is neither white space nor a control character, and forbids all control characters but
    /// the `allowed` ones.
    fn pattern(allowed: &str) -> String {
        let controls = match allowed {
            "" => "\\u0000-\\u001f",
            _ => "\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f",
        };
        let any = format!("[^{controls}\\u007f-\\u009f]*");
        format!("^{any}[^\\s\\u0000-\\u001f\\u007f-\\u009f]{any}$")
    }

    impl<const MAX: usize> JsonSchema for Line<MAX> {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            format!("Line{MAX}").into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "minLength": 1, "maxLength": MAX, "pattern": pattern("")})
        }
    }

    impl<const MAX: usize> JsonSchema for Prose<MAX> {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            format!("Prose{MAX}").into()
        }

        // The limit counts bytes, and `maxLength` counts characters: a text that the schema accepts may still be too long.
        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "type": "string",
                "description": format!("At most {MAX} bytes of UTF-8."),
                "minLength": 1,
                "maxLength": MAX,
                "pattern": pattern("\t\n\r"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emoji_and_right_to_left_text_are_kept_exactly() {
        for name in ["마당 👩‍👩‍👧", "\u{200f}שלום\u{200e}", " padded "] {
            assert_eq!(Line::<80>::parse(name.to_owned()).unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_line_counts_characters_and_prose_counts_bytes() {
        assert!(Line::<2>::parse("é́".to_owned()).is_ok());
        assert!(Line::<2>::parse("abc".to_owned()).is_err());
        assert!(Prose::<4>::parse("éé".to_owned()).is_ok());
        assert!(Prose::<4>::parse("ééé".to_owned()).is_err());
    }

    #[test]
    fn blank_text_and_control_characters_are_refused() {
        for bad in ["", "  ", "\u{3000}", "a\u{0}b", "a\nb", "a\u{7f}"] {
            assert!(Line::<80>::parse(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(Prose::<80>::parse("a\n\tb\r\n".to_owned()).is_ok());
        assert!(Prose::<80>::parse("a\u{1b}[31m".to_owned()).is_err());
    }
}
