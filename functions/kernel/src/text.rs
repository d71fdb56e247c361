//! Text that shows something, is not too long and has no control characters. Otherwise it is kept exactly as it was sent, with
//! emoji, right-to-left marks and white space, and is not normalised. Where it is shown inside other text, [`excerpt`],
//! [`shortened`] and [`isolated`] say how.

mod shown;
mod visible;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::shown::{excerpt, isolated, shortened};
use self::visible::is_blank;
use crate::input::{FromField, Invalid};

/// One line of text: 1 to `MAX` characters (Unicode scalar values), not blank, no control characters, no line or paragraph
/// separators.
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
        if is_blank(&text) {
            Err("must not be blank".to_owned())
        } else if text.chars().count() > MAX {
            Err(format!("must have at most {MAX} characters"))
        } else if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
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
        if is_blank(&text) {
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

/// The JSON Schema of texts: what [`Line::parse`] and [`Prose::parse`] check, as far as a pattern can say it. A pattern has no
/// Unicode properties without the flag `u`, which JSON Schema leaves to its readers: so a text of characters that show nothing,
/// other than white space, fits the schema and is refused.
#[cfg(feature = "contract")]
mod contract {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{Line, Prose};

    /// Control characters, and what else ends a line.
    const NOT_IN_A_LINE: &str = r"\u0000-\u001f\u007f-\u009f\u2028\u2029";
    /// Control characters but line breaks and tabs.
    const NOT_IN_PROSE: &str = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f";

    /// Requires one character that is neither white space nor a control character, and forbids the `excluded` ones.
    fn pattern(excluded: &str) -> String {
        let any = format!("[^{excluded}]*");
        format!(r"^{any}[^\s\u0000-\u001f\u007f-\u009f]{any}$")
    }

    impl<const MAX: usize> JsonSchema for Line<MAX> {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            format!("Line{MAX}").into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "minLength": 1, "maxLength": MAX, "pattern": pattern(NOT_IN_A_LINE)})
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
                "pattern": pattern(NOT_IN_PROSE),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Result<Line<80>, String> {
        Line::parse(text.to_owned())
    }

    fn prose(text: &str) -> Result<Prose<320>, String> {
        Prose::parse(text.to_owned())
    }

    #[test]
    fn emoji_and_right_to_left_text_are_kept_exactly() {
        for name in [
            "마당 👩‍👩‍👧",
            "👩‍👩‍👧",
            "\u{200f}שלום\u{200e}",
            "שלום",
            " padded ",
            "e\u{301}\u{202e}",
            "می\u{200c}خواهم",
            "\u{202e}abc",
            "🇰🇷",
        ] {
            assert_eq!(line(name).unwrap().as_str(), name);
            assert_eq!(prose(name).unwrap().as_str(), name);
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
            assert!(line(bad).is_err(), "{bad:?}");
        }
        assert!(Prose::<80>::parse("a\n\tb\r\n".to_owned()).is_ok());
        assert!(Prose::<80>::parse("a\u{1b}[31m".to_owned()).is_err());
    }

    #[test]
    fn text_that_shows_nothing_is_blank() {
        let blank = Err("must not be blank".to_owned());
        for nothing in [
            "\u{200b}",
            "\u{3164}",
            "\u{2800}\u{2800}",
            "\u{ad}",
            "\u{200d}",
            "\u{fe0f}",
            " \u{feff} ",
            "\u{301}",
        ] {
            assert_eq!(line(nothing).map(|_| ()), blank, "{nothing:?}");
            assert_eq!(prose(nothing).map(|_| ()), blank, "{nothing:?}");
        }
    }

    #[test]
    fn a_line_has_no_unicode_line_break_and_prose_may_have_one() {
        for line_break in ["\u{2028}", "\u{2029}", "\u{85}"] {
            let error = line(&format!("a{line_break}b")).unwrap_err();
            assert_eq!(error, "must be one line without control characters", "{line_break:?}");
        }
        assert!(prose("a\u{2028}b\u{2029}c").is_ok());
    }

    proptest! {
        #[test]
        fn text_that_is_accepted_is_stored_unchanged(text in any::<String>()) {
            if let Ok(accepted) = line(&text) {
                prop_assert_eq!(accepted.as_str(), &text);
                prop_assert_eq!(serde_json::to_value(&accepted).unwrap(), Value::from(text.clone()));
            }
            if let Ok(accepted) = prose(&text) {
                prop_assert_eq!(accepted.as_str(), &text);
                prop_assert_eq!(serde_json::to_value(&accepted).unwrap(), Value::from(text));
            }
        }

        #[test]
        fn a_line_that_is_accepted_shows_something_and_is_one_line(text in any::<String>()) {
            if let Ok(accepted) = line(&text) {
                prop_assert!(!is_blank(accepted.as_str()));
                let ends_a_line = accepted.as_str().contains(['\u{2028}', '\u{2029}', '\u{85}', '\r', '\n']);
                prop_assert!(!ends_a_line);
            }
        }

        #[test]
        fn one_visible_character_is_enough(
            before in r"[\p{DI} ]{0,10}",
            c in r"[[\p{L}\p{N}\p{S}]--\p{DI}--[\u{2800}\u{1d159}]]",
            after in r"[\p{DI} ]{0,10}",
        ) {
            let text = format!("{before}{c}{after}");
            prop_assert!(line(&text).is_ok());
        }
    }
}
