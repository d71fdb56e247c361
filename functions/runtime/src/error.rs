//! Errors in the log: their causes in one line, and data that cannot be read, without the data.
//!
//! serde's messages quote the value that they refuse (`invalid type: string "ara@example.com", expected …`). They would reach the log,
//! the reasons of dead letters and the histories of executions. So everything that people wrote is read by [`read_json`],
//! [`read_value`] or [`read_item`], whose error says what is wrong and where, and quotes nothing. A test of this module finds code that
//! uses another way and keeps serde's error.

use std::error::Error;

use serde::Deserialize;
use serde_json::{Value, error::Category};
use serde_path_to_error::{Path, Segment};
use thiserror::Error as ThisError;

/// An error and its causes in one line: `the table is not available: dispatch failure: connection refused`.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Why data could not be read, and where: `missing field "name" at data (line 1, column 40)`. Nothing of the data is quoted.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{0}")]
pub struct Unreadable(String);

/// Reads JSON.
pub fn read_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Unreadable> {
    let unreadable = |error: &serde_json::Error, place: &str| {
        let (line, column) = (error.line(), error.column());
        Unreadable(format!("{}{place} (line {line}, column {column})", json_fault(error)))
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let place = match error.inner().classify() {
            Category::Data => place(error.path()),
            // The path to a mistake in the syntax can have names that are not ours.
            Category::Syntax | Category::Eof | Category::Io => String::new(),
        };
        unreadable(error.inner(), &place)
    })?;
    deserializer.end().map_err(|error| unreadable(&error, ""))?;
    Ok(read)
}

/// Reads a JSON value.
pub fn read_value<'a, T: Deserialize<'a>>(value: Value) -> Result<T, Unreadable> {
    let read: Result<T, _> = serde_path_to_error::deserialize(value);
    read.map_err(|error| Unreadable(format!("{}{}", json_fault(error.inner()), place(error.path()))))
}

/// Reads an item of a table, or of a table's stream.
pub fn read_item<'a, T: Deserialize<'a>>(item: impl Into<serde_dynamo::Item>) -> Result<T, Unreadable> {
    let item = serde_dynamo::AttributeValue::M(item.into().into());
    let item = serde_dynamo::Deserializer::from_attribute_value(item);
    let read: Result<T, _> = serde_path_to_error::deserialize(item);
    read.map_err(|error| {
        let message = error.inner().to_string();
        // serde_dynamo's own messages name the expected type and nothing else.
        let fault = match message.strip_prefix("Expected ") {
            Some("string" | "map" | "seq" | "num" | "bool" | "char" | "enum" | "binary data") => message,
            _ => fault(&message),
        };
        Unreadable(format!("{fault}{}", place(error.path())))
    })
}

fn json_fault(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => fault(&error.to_string()),
        Category::Eof => "it is cut off".to_owned(),
        Category::Syntax | Category::Io => "it is not JSON".to_owned(),
    }
}

/// What is wrong, by one of serde's messages
/// (<https://docs.rs/serde/latest/serde/de/trait.Error.html>), without the value that it quotes.
fn fault(message: &str) -> String {
    let is_name =
        |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    // The fields' names are those of our types.
    for kind in ["missing field", "duplicate field"] {
        let named = message.strip_prefix(kind).and_then(|rest| rest.split('`').nth(1)).filter(is_name);
        if let Some(name) = named {
            return format!("{kind} `{name}`");
        }
    }
    // Any other quotes what it refuses: `unknown variant`, or the text of an error that a type of ours has made.
    let kinds = ["invalid type", "invalid value", "invalid length", "unknown variant", "unknown field"];
    let kind = kinds.into_iter().find(|kind| message.starts_with(kind));
    kind.unwrap_or("invalid value").to_owned()
}

/// Where it is wrong, if that is known: ` at data.name`. A key that is not the name of a field could be data.
fn place(path: &Path) -> String {
    let is_field = |key: &str| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let mut place = String::new();
    for segment in path {
        let segment = match segment {
            Segment::Seq { index } => format!("[{index}]"),
            Segment::Map { key } if is_field(key) => format!(".{key}"),
            Segment::Map { .. } => ".*".to_owned(),
            Segment::Enum { .. } | Segment::Unknown => continue,
        };
        place.push_str(&segment);
    }
    if place.is_empty() { place } else { format!(" at {}", place.trim_start_matches('.')) }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fmt, fs, io, path::PathBuf};

    use kernel::clock::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    /// What must not leave.
    const MARKER: &str = "ara@example.com";

    #[derive(Debug)]
    struct Unavailable(io::Error);

    impl fmt::Display for Unavailable {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("the table is not available")
        }
    }

    impl Error for Unavailable {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_is_followed_by_its_causes() {
        let error = Unavailable(io::Error::other("connection refused"));
        assert_eq!(chain(&error), "the table is not available: connection refused");
    }

    /// Every form in which a field can refuse a text.
    #[allow(dead_code, reason = "only read")]
    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Form {
        number: u64,
        time: Option<Timestamp>,
        id: Option<Uuid>,
        letter: Option<char>,
        list: Vec<u64>,
        map: HashMap<String, u64>,
        choice: Option<Choice>,
        tagged: Option<Tagged>,
        nested: Option<Nested>,
    }

    #[derive(Debug, Deserialize)]
    enum Choice {
        A,
        B,
    }

    #[allow(dead_code, reason = "only read")]
    #[derive(Debug, Deserialize)]
    #[serde(tag = "type", content = "data")]
    enum Tagged {
        A { number: u64 },
    }

    #[allow(dead_code, reason = "only read")]
    #[derive(Debug, Deserialize)]
    struct Nested {
        number: u64,
    }

    /// Data that does not fit, each with the marker as a value or a key.
    fn unreadable() -> Vec<Value> {
        let mut forms: Vec<Value> =
            ["number", "time", "id", "letter", "list", "map", "choice", "tagged", "nested", MARKER]
                .map(|field| json!({field: MARKER}))
                .into();
        forms.extend([
            json!(MARKER),
            json!([MARKER]),
            json!({"number": {MARKER: MARKER}}),
            json!({"list": [1, MARKER]}),
            json!({"map": {MARKER: MARKER}}),
            json!({"choice": {MARKER: 1}}),
            json!({"tagged": {"type": MARKER}}),
            json!({"tagged": {"type": "A", "data": {"number": MARKER}}}),
            json!({"nested": {MARKER: 1}}),
            json!({"nested": {"number": MARKER}}),
        ]);
        forms
    }

    #[test]
    fn no_text_of_data_that_cannot_be_read_leaves() {
        for form in unreadable() {
            let json = form.to_string();
            let mut errors = vec![read_json::<Form>(json.as_bytes()).unwrap_err()];
            // With a mistake in the syntax behind it, after it and in it.
            errors.push(read_json::<Form>(format!("{{}} {json}").as_bytes()).unwrap_err());
            errors.push(read_json::<Value>(format!("{json}{MARKER}").as_bytes()).unwrap_err());
            errors.push(read_json::<Value>(&json.as_bytes()[..json.len() - 1]).unwrap_err());
            if let Value::Object(_) = form {
                let item: serde_dynamo::Item = serde_dynamo::to_item(&form).unwrap();
                errors.push(read_item::<Form>(item).unwrap_err());
            }
            errors.push(read_value::<Form>(form).unwrap_err());
            for error in errors {
                let text = format!("{error} {error:?}");
                assert!(!text.contains("ara") && !text.contains('@'), "{json}: {text}");
            }
        }
        // serde_dynamo has a message of its own for this one.
        let number = serde_dynamo::AttributeValue::N(MARKER.to_owned());
        let item = HashMap::from([("number".to_owned(), number)]);
        assert_eq!(read_item::<Form>(item).unwrap_err().to_string(), "invalid value at number");
    }

    #[test]
    fn an_error_says_what_is_wrong_and_where() {
        let of_json = |json: &str| read_json::<Form>(json.as_bytes()).unwrap_err().to_string();
        assert_eq!(of_json(r#"{"list": [1, "x"]}"#), "invalid type at list[1] (line 1, column 16)");
        assert_eq!(of_json(r#"{"map": {"Ara": "x"}}"#), "invalid type at map.* (line 1, column 19)");
        assert_eq!(of_json(r#"{"nested": {}}"#), "missing field `number` at nested (line 1, column 13)");
        assert_eq!(of_json(r#"{"number": 1"#), "it is cut off (line 1, column 12)");
        assert_eq!(of_json(r#"{"number": x}"#), "it is not JSON (line 1, column 12)");
        assert_eq!(of_json("{} x"), "it is not JSON (line 1, column 4)");
        let of_value = |value| read_value::<Form>(value).unwrap_err().to_string();
        assert_eq!(of_value(json!({"nested": {"number": "x"}})), "invalid type at nested.number");
        assert_eq!(of_value(json!({"choice": "C"})), "unknown variant at choice");
        let item: serde_dynamo::Item = serde_dynamo::to_item(json!({"nested": {"number": "x"}})).unwrap();
        assert_eq!(read_item::<Form>(item).unwrap_err().to_string(), "Expected num at nested.number");
    }

    /// The sources of the functions, without their unit tests.
    fn sources() -> Vec<(PathBuf, String)> {
        let mut left = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")];
        let mut found = Vec::new();
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs")
                    && path.components().any(|part| part.as_os_str() == "src")
                {
                    let text = fs::read_to_string(&path).unwrap();
                    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                    found.push((path, code.collect::<Vec<_>>().join("\n")));
                }
            }
        }
        assert!(found.len() > 100, "the sources were not found");
        found
    }

    /// The calls of serde in a source whose error is kept: each as its statement up to its end.
    fn keeps_an_error(code: &str) -> Vec<&str> {
        // Ways to read data by serde. `from_str` alone would be that of other types, too.
        const READS: [&str; 4] = ["serde_json::from_", "serde_dynamo::from_", "::deserialize(", ".json::<"];
        // What leaves nothing of an error, or takes only its line and column.
        const DROPS: [&str; 6] =
            [".ok()", ".is_ok", "unwrap_or_default()", "|_|", "Err(_)", "error.line(), error.column()"];
        // An import after which a call does not name the crate.
        let imports = ["use serde_json::", "use serde_dynamo::"].into_iter();
        let imports = imports.flat_map(|import| code.match_indices(import)).filter_map(|(start, _)| {
            let import = code[start..].split(';').next()?;
            import.contains("from_").then_some(import)
        });
        let reads = READS.iter().flat_map(|read| code.match_indices(read));
        let statements = reads.map(|(start, _)| {
            // The statement ends at a semicolon, or where the block around it does.
            let mut depth = 0_i32;
            let end = code[start..].char_indices().find(|(_, char)| {
                depth += match char {
                    '(' | '{' | '[' => 1,
                    ')' | '}' | ']' => -1,
                    _ => 0,
                };
                (*char == ';' && depth <= 0) || depth < -2
            });
            &code[start..end.map_or(code.len(), |(end, _)| start + end)]
        });
        statements
            .filter(|statement| !DROPS.iter().any(|drop| statement.contains(drop)))
            .chain(imports)
            .collect()
    }

    #[test]
    fn what_people_wrote_is_read_by_this_module_alone_or_without_keeping_the_error() {
        let mut wrong = Vec::new();
        for (path, code) in sources() {
            if path.ends_with("runtime/src/error.rs") {
                continue;
            }
            for statement in keeps_an_error(&code) {
                wrong.push(format!("{}: {statement}", path.display()));
            }
        }
        assert!(
            wrong.is_empty(),
            "read it by runtime::error, whose errors quote nothing:\n{}",
            wrong.join("\n")
        );
    }

    #[test]
    fn a_call_that_keeps_serdes_error_is_found() {
        for kept in [
            "let a: A = serde_json::from_str(text)?;",
            "serde_json::from_value(value).map_err(|error| error.to_string())",
            "let a = items.map(serde_dynamo::from_item).transpose()?; let b = b.ok();",
            "let head = Head::deserialize(&outbox).map_err(Problem::internal)?;",
            "answer.json::<Intent>().await.map_err(unknown)",
            "use serde_json::{Value, from_str};",
        ] {
            assert_eq!(keeps_an_error(kept).len(), 1, "{kept}");
        }
        for dropped in [
            "let a: A = serde_json::from_str(text).ok()?;",
            "let a = serde_json::from_slice(&body).map_err(|_| malformed())?;",
            "let a: A = serde_json::from_str(text).unwrap_or_default();",
        ] {
            assert_eq!(keeps_an_error(dropped), Vec::<&str>::new(), "{dropped}");
        }
    }
}
