//! How someone's text is shown inside other text: cut, in one line, and without an effect on the text around it.

use unicode_segmentation::UnicodeSegmentation;

use super::visible::{is_blank, shows_nothing};

/// The beginning of a text, in one line: at most `max` characters (Unicode scalar values), and no part of what people see as one
/// character ([UAX 29](https://www.unicode.org/reports/tr29/)'s grapheme clusters: a flag, a family, a letter with its accents).
///
/// Line breaks and runs of white space become one space. The excerpt shows something if the text does: if the first `max`
/// characters show nothing, it begins at the first that does. Only if what people see as the first character is itself longer
/// than `max`, as no character of any language is, that one is cut.
pub fn excerpt(text: &str, max: usize) -> String {
    let line = one_line(text);
    let excerpt = first_clusters(&line, max);
    if !is_blank(excerpt) {
        return excerpt.to_owned();
    }
    let visible = line.trim_start_matches(shows_nothing);
    match first_clusters(visible, max) {
        "" => visible.chars().take(max).collect::<String>().trim_end().to_owned(),
        excerpt => excerpt.to_owned(),
    }
}

/// The text in one line. If it has more than `max` characters, it ends with `…`, which counts, where an [`excerpt`] ends.
pub fn shortened(text: &str, max: usize) -> String {
    let line = one_line(text);
    if line.chars().count() <= max { line } else { excerpt(&line, max.saturating_sub(1)) + "…" }
}

/// Someone's text, in one line, for a sentence that is not theirs. It is displayed in its own direction, and the sentence around
/// it stays in order: it stands between FIRST STRONG ISOLATE and POP DIRECTIONAL ISOLATE
/// ([UAX 9](https://www.unicode.org/reports/tr9/)). Embeddings, overrides and isolates of its own are left out, since one that
/// closes more than it has opened would reach what is outside.
pub fn isolated(text: &str) -> String {
    let text: String = text.chars().filter(|c| !is_directional_formatting(*c)).collect();
    format!("\u{2068}{}\u{2069}", one_line(&text))
}

/// The text with each run of white space, line breaks included, as one space, and none at its ends.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The grapheme clusters that `max` characters have room for, without a space at the end.
fn first_clusters(line: &str, max: usize) -> &str {
    let (mut end, mut characters) = (0, 0);
    for (start, cluster) in line.grapheme_indices(true) {
        characters += cluster.chars().count();
        if characters > max {
            break;
        }
        if !cluster.ends_with(' ') {
            end = start + cluster.len();
        }
    }
    &line[..end]
}

/// UAX 9's explicit embeddings, overrides and isolates, and what ends them. Its marks (U+200E, U+200F, U+061C) are not among them:
/// they are letters without a shape, whose effect ends with the isolate.
fn is_directional_formatting(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const FAMILY: &str = "👩‍👩‍👧‍👦";
    const FLAG: &str = "🇰🇷";

    #[test]
    fn an_excerpt_ends_between_the_characters_that_people_see() {
        for whole in [FAMILY, FLAG, "e\u{301}\u{302}", "한", "각", "क्षि", "👍🏽", "\u{600}1"] {
            let beginning = "a".repeat(139);
            let expected =
                if whole.chars().count() > 1 { beginning.clone() } else { format!("{beginning}{whole}") };
            assert_eq!(excerpt(&format!("{beginning}{whole}"), 140), expected, "{whole}");
            let fits = "a".repeat(140 - whole.chars().count()) + whole;
            assert_eq!(excerpt(&format!("{fits}{whole}"), 140), fits, "{whole}");
        }
    }

    #[test]
    fn an_excerpt_is_one_line() {
        let text = " a\r\n\r\nb\t \u{2028}c\u{2029}d\u{85}e\u{a0}\u{3000}f\n";
        assert_eq!(excerpt(text, 140), "a b c d e f");
        assert_eq!(excerpt(text, 4), "a b");
    }

    #[test]
    fn an_excerpt_shows_something_if_the_text_does() {
        let hidden = "\u{200b}\u{301}".repeat(100);
        assert_eq!(excerpt(&format!("{hidden} It rains."), 140), "It rains.");
        assert_eq!(excerpt(&format!("\u{200f}{FLAG}"), 140), format!("\u{200f}{FLAG}"));
        let stacked = "e".to_owned() + &"\u{301}".repeat(300);
        assert_eq!(excerpt(&stacked, 140), "e".to_owned() + &"\u{301}".repeat(139));
    }

    #[test]
    fn a_shortened_text_says_that_it_was_cut() {
        assert_eq!(shortened("Bada", 4), "Bada");
        assert_eq!(shortened("Badada", 4), "Bad…");
        assert_eq!(shortened(&format!("ab{FLAG}{FLAG}"), 5), format!("ab{FLAG}…"));
        assert_eq!(shortened(&format!("ab{FLAG}{FLAG}"), 4), "ab…");
        assert_eq!(shortened(" a \n b ", 3), "a b");
    }

    #[test]
    fn an_isolated_text_cannot_reach_the_sentence_around_it() {
        for (name, expected) in [
            ("Bada", "\u{2068}Bada\u{2069}"),
            ("\u{200f}שלום\u{200e}", "\u{2068}\u{200f}שלום\u{200e}\u{2069}"),
            (FAMILY, "\u{2068}👩‍👩‍👧‍👦\u{2069}"),
            ("\u{202e}evil", "\u{2068}evil\u{2069}"),
            ("a\u{2069}\u{202e}b", "\u{2068}ab\u{2069}"),
            ("\u{2066}a\u{2067}\u{2068}", "\u{2068}a\u{2069}"),
            ("a\u{2029}b \u{202c} c", "\u{2068}a b c\u{2069}"),
        ] {
            assert_eq!(isolated(name), expected, "{name:?}");
        }
    }

    /// LRE, RLE, PDF, LRO, RLO, LRI, RLI, FSI and PDI, as UAX 9 lists them.
    const FORMATTING: &str = "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";

    /// Text with what is hard about text, many times as often as in random characters.
    fn text() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            r"\PC{0,5}",
            r"[\p{M}\p{DI}\u{2800}\u{200d}]{1,5}",
            r"[ \n\r\t\u{a0}\u{85}\u{2028}\u{2029}\u{3000}]{1,3}",
            r"[\u{202a}-\u{202e}\u{2066}-\u{2069}\u{200e}\u{200f}\u{61c}]{1,3}",
            r"[\u{1f1e6}-\u{1f1ff}]{1,5}",
            r"[\u{1100}-\u{11ff}]{1,4}",
            Just("क्".to_owned()),
            Just(FAMILY.to_owned()),
            Just("\u{600}".to_owned()),
            any::<String>(),
        ];
        prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn an_excerpt_is_no_longer_than_allowed_one_line_and_its_own_excerpt(text in text(), max in 1_usize..50) {
            let excerpt = excerpt(&text, max);
            prop_assert!(excerpt.chars().count() <= max);
            prop_assert_eq!(&one_line(&excerpt), &excerpt);
            prop_assert_eq!(&super::excerpt(&excerpt, max), &excerpt);
            prop_assert_eq!(is_blank(&excerpt), is_blank(&text));
        }

        #[test]
        fn an_excerpt_is_made_of_the_first_whole_clusters(text in text(), max in 1_usize..50) {
            let line = one_line(&text);
            let clusters: Vec<&str> = line.graphemes(true).collect();
            let mut prefixes = (0..=clusters.len()).map(|count| clusters[..count].concat());
            let fits = |prefix: &String| prefix.chars().count() <= max && !prefix.ends_with(' ');
            let longest = prefixes.rfind(fits).unwrap();
            // Where the beginning shows nothing, the excerpt begins later.
            prop_assume!(!is_blank(&longest));
            prop_assert_eq!(excerpt(&text, max), longest);
        }

        #[test]
        fn isolation_is_balanced_and_one_line_for_every_text(text in text()) {
            let isolated = isolated(&text);
            let inside = isolated.strip_prefix('\u{2068}').and_then(|rest| rest.strip_suffix('\u{2069}')).unwrap();
            prop_assert!(!inside.contains(|c: char| FORMATTING.contains(c)));
            prop_assert_eq!(one_line(inside), inside);
            // Nothing else is left out.
            let visible = |text: &str| -> String {
                text.chars().filter(|c| !FORMATTING.contains(*c) && !c.is_whitespace()).collect()
            };
            prop_assert_eq!(visible(inside), visible(&text));
        }

        #[test]
        fn a_shortened_text_is_no_longer_than_allowed(text in text(), max in 2_usize..50) {
            let shortened = shortened(&text, max);
            prop_assert!(shortened.chars().count() <= max);
            prop_assert_eq!(&one_line(&shortened), &shortened);
        }
    }

    /// Unicode's own samples, as `icu_segmenter` ships them: each with its clusters.
    fn samples() -> Vec<Vec<String>> {
        let metadata = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--offline", "--manifest-path"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .output()
            .unwrap();
        let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == "icu_segmenter").unwrap();
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("tests/testdata");
        let (major, minor, patch) = unicode_segmentation::UNICODE_VERSION;
        let title = format!("# GraphemeBreakTest-{major}.{minor}.{patch}.txt");
        let files = fs::read_dir(folder).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
        let mut files = files.filter_map(|file| String::from_utf8(file).ok());
        let file = files.find(|file| file.starts_with(&title)).expect("a file of this version of Unicode");

        let samples = file.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let character = |hex: &str| char::from_u32(u32::from_str_radix(hex.trim(), 16).unwrap()).unwrap();
        let cluster = |cluster: &str| cluster.split('×').map(character).collect();
        let clusters = |sample: &str| {
            sample.split('÷').map(str::trim).filter(|cluster| !cluster.is_empty()).map(cluster).collect()
        };
        samples.filter(|sample| !sample.is_empty()).map(clusters).collect()
    }

    #[test]
    fn unicodes_own_samples_are_cut_between_their_clusters() {
        let samples = samples();
        assert!(samples.len() > 700, "{}", samples.len());
        for clusters in samples {
            // With a letter in front, the excerpt always shows something. The word joiner keeps the sample apart from the letter.
            let text = format!("a\u{2060}{}", clusters.concat());
            for max in 2..=text.chars().count() {
                let prefixes = (0..=clusters.len()).map(|count| &clusters[..count]);
                let fits = |clusters: &&[String]| 2 + clusters.concat().chars().count() <= max;
                let mut expected = prefixes.take_while(fits).last().unwrap();
                while let Some((_, before)) = expected.split_last().filter(|(last, _)| last.ends_with(' ')) {
                    expected = before;
                }
                let expected = format!("a\u{2060}{}", expected.concat());
                assert_eq!(first_clusters(&text, max), expected, "{clusters:?}, {max}");
            }
        }
    }
}
