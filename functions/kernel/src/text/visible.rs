//! Whether a text shows anything.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup, GraphemeClusterBreak},
};

/// Characters whose glyph is empty by their definition, and that no property of Unicode tells apart from those that show
/// something: BRAILLE PATTERN BLANK, EGYPTIAN HIEROGLYPH FULL BLANK and HALF BLANK, MUSICAL SYMBOL NULL NOTEHEAD.
const EMPTY: [char; 4] = ['\u{2800}', '\u{13441}', '\u{13442}', '\u{1d159}'];

/// Whether nobody sees anything of the text: it is empty, or each of its characters [shows nothing](shows_nothing).
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(shows_nothing)
}

/// Whether the character by itself shows nothing:
///
/// - white space;
/// - what has no glyph: control and format characters but the Arabic and Kaithi number signs, which have one. Among all format
///   characters the property `Grapheme_Cluster_Break` tells them apart;
/// - what is displayed as nothing where it is not supported, Hangul's fillers included: `Default_Ignorable_Code_Point`;
/// - what is [`EMPTY`];
/// - a combining mark. It belongs to the letter before it. Without a letter of its own it lands on another's: on the last word in
///   front of the name, in a list or a sentence.
pub(super) fn shows_nothing(c: char) -> bool {
    // Most text is decided by its first character, without a look at the tables.
    !c.is_ascii_graphic()
        && (c.is_whitespace()
            || EMPTY.contains(&c)
            || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
            || CodePointMapData::<GraphemeClusterBreak>::new().get(c) == GraphemeClusterBreak::Control
            || GeneralCategoryGroup::Mark.contains(CodePointMapData::<GeneralCategory>::new().get(c)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_shows_nothing_by_itself() {
        let nothing = [
            ("white space", " \t\u{a0}\u{3000}\u{2028}\u{2029}\u{85}"),
            ("zero width", "\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}"),
            ("bidirectional", "\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}"),
            ("fillers", "\u{115f}\u{1160}\u{3164}\u{ffa0}\u{2800}\u{13441}\u{13442}\u{1d159}\u{16fe4}"),
            ("ignorable", "\u{ad}\u{34f}\u{180e}\u{17b4}\u{2062}\u{1d173}"),
            ("variation selectors and tags", "\u{fe00}\u{fe0f}\u{e0100}\u{e0020}"),
            ("control and format", "\0\u{7f}\u{fff9}\u{fffb}\u{13430}"),
            ("marks without a letter", "\u{301}\u{20dd}\u{93e}"),
        ];
        for (kind, characters) in nothing {
            for c in characters.chars() {
                assert!(shows_nothing(c), "{kind}: {c:?}");
            }
            assert!(is_blank(characters), "{kind}");
        }
        assert!(is_blank(""));
    }

    #[test]
    fn what_shows_something() {
        for c in [
            'a', '0', '.', 'é', '마', 'ش', 'ש', '👩', '🏻', '🇰', '\u{600}', '\u{6dd}', '\u{ac00}',
            '\u{1100}', '⠁', '□', '\u{fffd}', '\u{e000}',
        ] {
            assert!(!shows_nothing(c), "{c:?}");
        }
        for text in ["👩‍👩‍👧", "\u{200f}שלום", "e\u{301}", "\u{200b}.", "می\u{200c}خواهم"]
        {
            assert!(!is_blank(text), "{text:?}");
        }
    }

    // `proptest` takes these properties from the tables of `regex-syntax`, which were made without ICU.
    proptest! {
        #[test]
        fn all_that_is_white_space_ignorable_control_or_mark_is_blank(
            text in r"[\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Cc}\p{Zl}\p{Zp}\p{M}\u{2800}\u{13441}\u{13442}\u{1d159}]*",
        ) {
            prop_assert!(is_blank(&text));
        }

        #[test]
        fn no_letter_number_punctuation_or_symbol_is_blank(
            text in r"[[\p{L}\p{N}\p{P}\p{S}]--\p{Default_Ignorable_Code_Point}--[\u{2800}\u{13441}\u{13442}\u{1d159}]]",
        ) {
            prop_assert!(!is_blank(&text));
        }
    }
}
