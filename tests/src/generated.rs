//! Every file that is generated from the code: `make contract` writes them, and a test fails if one of them is out of date.

use std::{collections::BTreeMap, fmt::Write};

use crate::{catalogue, files, invoke, openapi, released};

/// The command that writes them.
pub const COMMAND: &str = "make contract";

/// The files by their paths, with their text.
///
/// # Errors
///
/// If a schema rejects released events, a sentence for each field: such a schema must not be published.
pub fn all() -> Result<BTreeMap<String, String>, Vec<String>> {
    let unreadable = released::unreadable();
    if !unreadable.is_empty() {
        return Err(unreadable);
    }
    let schemas = catalogue::schemas();
    let mut generated: BTreeMap<String, String> = schemas
        .iter()
        .map(|(name, schema)| (format!("events/schemas/{}.json", name.stem()), files::pretty(schema)))
        .collect();
    generated.extend(released::next());
    generated.extend(invoke::requests());
    let (examples, consumers) = (catalogue::examples(), catalogue::consumers());
    let asyncapi = catalogue::asyncapi(&examples, &consumers);
    generated.insert("infra/asyncapi.json".to_owned(), files::pretty(&asyncapi));
    generated.insert("infra/openapi.json".to_owned(), files::pretty(&openapi::document()));
    generated.insert("events/README.md".to_owned(), catalogue::page(&examples, &consumers));
    generated.insert("CargoLambda.toml".to_owned(), router());
    Ok(generated)
}

/// The routes for `cargo lambda watch`.
fn router() -> String {
    let mut paths: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for operation in openapi::operations() {
        let target =
            format!("{{ function = \"{}\", method = \"{}\" }}", operation.function, operation.method);
        paths.entry(operation.path).or_default().push(target);
    }
    let mut router = format!(
        "# Generated: {COMMAND}. The API's routes, so that `cargo lambda watch` answers at the real paths.\n\n[watch.router]\n"
    );
    for (path, targets) in paths {
        let targets = match &targets[..] {
            [only] => format!("[{only}]"),
            several => several.iter().fold("[\n".to_owned(), |list, one| list + "    " + one + ",\n") + "]",
        };
        writeln!(router, "\"{path}\" = {targets}").unwrap();
    }
    router
}
