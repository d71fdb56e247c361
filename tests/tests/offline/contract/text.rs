//! The schemas of texts in the description accept whatever the API accepts.

use std::sync::LazyLock;

use jsonschema::Validator;
use kernel::text::{Line, Prose};
use proptest::prelude::*;
use schemars::{JsonSchema, schema_for};

static LINE: LazyLock<Validator> = LazyLock::new(validator::<Line<20>>);
static PROSE: LazyLock<Validator> = LazyLock::new(validator::<Prose<20>>);

fn validator<T: JsonSchema>() -> Validator {
    jsonschema::validator_for(&schema_for!(T).to_value()).unwrap()
}

/// Text with the characters at the borders of the patterns, many times as often as in random characters.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        any::<String>(),
        r"[\x00-\x20\x7e-\xa1]{1,2}",
        r"[\u{2000}-\u{2070}\u{3000}\u{3164}\u{2800}\u{feff}]{1,3}",
        r"[\n\r\t ]{1,2}",
        r"[a-z]{1,3}",
    ];
    prop::collection::vec(pieces, 0..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_schema_accepts_what_the_api_accepts_and_else_only_what_shows_nothing_or_has_too_many_bytes(text in text()) {
        let value = text.as_str().into();
        let (fits_line, fits_prose) = (LINE.is_valid(&value), PROSE.is_valid(&value));
        match Line::<20>::parse(text.clone()) {
            Ok(_) => prop_assert!(fits_line),
            Err(error) => prop_assert!(!fits_line || error == "must not be blank", "{error}"),
        }
        match Prose::<20>::parse(text) {
            Ok(_) => prop_assert!(fits_prose),
            // The schema counts characters, and the limit is in bytes.
            Err(error) => {
                let only_here = error == "must not be blank" || error.ends_with("bytes of UTF-8");
                prop_assert!(!fits_prose || only_here, "{error}");
            }
        }
    }
}
