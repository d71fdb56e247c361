//! The files that are generated from the code. `make contract` writes them, and a test fails if one of them is out of date.

use std::{collections::BTreeMap, fmt::Write};

use crate::{catalogue, files, invoke, openapi, released, templates};

/// The command that writes them.
pub const COMMAND: &str = "make contract";

/// The text of each file, by its path.
///
/// # Errors
///
/// If a schema is incompatible with a released one, a sentence for each field: such a schema must not be published. If the
/// API's description has something that OpenAPI 3.0 cannot say, a sentence for each place.
pub fn all() -> Result<BTreeMap<String, String>, Vec<String>> {
    let incompatible = released::incompatible();
    if !incompatible.is_empty() {
        return Err(incompatible);
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
    let description = openapi::document();
    generated.insert("infra/openapi.json".to_owned(), files::pretty(&description));
    generated
        .insert("infra/openapi-3.0.json".to_owned(), files::pretty(&openapi::v3_0::converted(&description)?));
    generated.insert("events/README.md".to_owned(), catalogue::page(&examples, &consumers));
    generated.insert("CargoLambda.toml".to_owned(), router());
    generated.insert("samconfig.toml".to_owned(), sam_config());
    Ok(generated)
}

/// The configuration of `sam deploy`: the hand-written environments unchanged, then one for each stack alone. In SAM an
/// environment inherits nothing, so each repeats the same settings.
fn sam_config() -> String {
    const MARK: &str = "# One stack alone. Generated from here on";
    let current = files::text("samconfig.toml");
    let (environments, rest) = current.split_once(MARK).expect("samconfig.toml has the mark");
    let mark = rest.lines().next().unwrap_or_default();
    let mut config = format!("{environments}{MARK}{mark}\n");
    for stack in templates::all().keys() {
        let parameters = [
            format!("template_file = \"infra/{stack}.yaml\""),
            format!("stack_name = \"madang-{stack}\""),
            "capabilities = [\"CAPABILITY_IAM\", \"CAPABILITY_AUTO_EXPAND\"]".to_owned(),
            "resolve_s3 = true".to_owned(),
            "confirm_changeset = false".to_owned(),
            "fail_on_empty_changeset = false".to_owned(),
        ];
        write!(config, "\n[{stack}.deploy.parameters]\n{}\n", parameters.join("\n")).unwrap();
    }
    config
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
            several => {
                several.iter().fold("[\n".to_owned(), |list, target| list + "    " + target + ",\n") + "]"
            }
        };
        writeln!(router, "\"{path}\" = {targets}").unwrap();
    }
    router
}
