//! The schemas of texts in the description accept whatever the API accepts.

use jsonschema::Validator;
use kernel::text::{Line, Prose};
use proptest::prelude::*;
use schemars::{JsonSchema, schema_for};

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
    fn a_schema_accepts_every_text_that_is_accepted_and_beyond_these_only_blank_or_long_ones(text in text()) {
        let described = (validator::<Line<20>>().is_valid(&text.as_str().into()), validator::<Prose<20>>().is_valid(&text.as_str().into()));
        match Line::<20>::parse(text.clone()) {
            Ok(_) => prop_assert!(described.0),
            Err(error) => prop_assert!(!described.0 || error == "must not be blank", "{error}"),
        }
        match Prose::<20>::parse(text) {
            Ok(_) => prop_assert!(described.1),
            // The schema counts characters, and the limit is in bytes.
            Err(error) => prop_assert!(!described.1 || error == "must not be blank" || error.ends_with("bytes of UTF-8"), "{error}"),
        }
    }
}
