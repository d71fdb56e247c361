//! Every file that is made of the code: `make contract` writes them, and a test fails if one of them is not what the code
//! says.

use std::{collections::BTreeMap, fmt::Write};

use crate::{catalogue, files, invoke, openapi, released};

/// What writes them anew.
pub const COMMAND: &str = "make contract";

/// The files by their paths, with their text.
///
/// # Errors
///
/// What somebody who knows a released event could not read: what may not be published is not written either.
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

/// The routes as `cargo lambda watch` reads them.
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
