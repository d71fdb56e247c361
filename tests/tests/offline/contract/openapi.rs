//! `infra/openapi.json`: generated, in step with the code and with the templates, and true to itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use kernel::contract::{Access, Place};
use serde_json::{Value, json};
use system_tests::openapi;

use super::{files, templates};

const FILE: &str = "infra/openapi.json";

/// The operations of a document, by method and path as a route has them.
fn operations(document: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.insert(format!("{} {path}", method.to_uppercase()), operation.clone());
        }
    }
    found
}

#[test]
fn the_committed_document_is_what_the_code_says() {
    files::is_current(FILE, &files::pretty(&openapi::document()));
}

#[test]
fn the_document_and_the_templates_have_the_same_routes_for_the_same_callers() {
    let described: BTreeMap<String, String> = openapi::services()
        .into_iter()
        .flat_map(|(_, _, operations)| operations)
        .map(|operation| {
            let authorization = match operation.access {
                Access::SignedIn => "JWT",
                Access::Principal => "AWS_IAM",
                Access::Everyone | Access::Provider => "NONE",
            };
            (format!("{} {}", operation.method, operation.path), authorization.to_owned())
        })
        .collect();
    let routes = templates::routes().into_iter();
    let routed: BTreeMap<String, String> = routes.map(|(key, route)| (key, route.authorization)).collect();
    assert_eq!(described, routed);
    let committed: Vec<String> = operations(&files::json(FILE)).into_keys().collect();
    assert_eq!(committed, templates::routes().into_keys().collect::<Vec<_>>(), "{FILE}: {}", files::UPDATE);
}

#[test]
fn a_browser_may_read_every_header_that_is_described() {
    let document = openapi::document();
    let operations = operations(&document).into_values();
    let answers = operations.flat_map(|operation| operation["responses"].as_object().unwrap().clone());
    let shared = document["components"]["responses"].as_object().unwrap().clone();
    let described: BTreeSet<String> = answers
        .chain(shared)
        .flat_map(|(_, answer)| answer["headers"].as_object().cloned().unwrap_or_default())
        .map(|(name, _)| name)
        .collect();
    let platform = &templates::all()["platform"];
    let (_, api) = templates::of_type(platform, "AWS::ApiGatewayV2::Api").next().unwrap();
    let exposed = api["CorsConfiguration"]["ExposeHeaders"].as_vec().unwrap().iter();
    let exposed: BTreeSet<String> = exposed.map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(described, exposed);
}

/// An endpoint that a function serves.
#[derive(Debug, PartialEq, Eq)]
struct Served {
    function: String,
    /// The handler with its service: `posts: endpoints::create`.
    handler: String,
}

/// The endpoints that the functions serve, by method and path.
fn served() -> BTreeMap<String, Served> {
    let mut served = BTreeMap::new();
    for service in files::names("functions") {
        let folder = format!("functions/{service}/src/bin");
        let Ok(binaries) = fs::read_dir(files::at(&folder)) else { continue };
        for binary in binaries {
            let binary = binary.unwrap().path();
            let function = binary.file_stem().unwrap().to_str().unwrap();
            let source = fs::read_to_string(&binary).unwrap();
            for endpoint in source.split(".on(").skip(1) {
                let (arguments, _) = endpoint.split_once(')').unwrap();
                let arguments: Vec<&str> =
                    arguments.split(',').map(|argument| argument.trim().trim_matches('"')).collect();
                let [method, path, handler] = arguments[..] else { panic!("{arguments:?}") };
                let endpoint =
                    Served { function: function.to_owned(), handler: format!("{service}: {handler}") };
                let standing = served.insert(format!("{method} {path}"), endpoint);
                assert_eq!(standing, None, "two functions serve {method} {path}");
            }
        }
    }
    served
}

#[test]
fn every_endpoint_that_a_function_serves_is_described_beside_its_handler_and_no_other_is() {
    let described: BTreeMap<String, String> = openapi::services()
        .into_iter()
        .flat_map(|(service, _, operations)| {
            operations.into_iter().map(move |operation| (service, operation))
        })
        .map(|(service, operation)| {
            (format!("{} {}", operation.method, operation.path), format!("{service}: {}", operation.handler))
        })
        .collect();
    let served: BTreeMap<String, String> =
        served().into_iter().map(|(endpoint, by)| (endpoint, by.handler)).collect();
    assert_eq!(described, served);
}

#[test]
fn a_route_leads_to_the_function_that_serves_it() {
    let functions = |(endpoint, by): (String, Served)| (endpoint, by.function);
    let served: BTreeMap<String, String> = served().into_iter().map(functions).collect();
    let routed =
        templates::routes().into_iter().map(|(endpoint, route)| (endpoint, route.function)).collect();
    assert_eq!(served, routed);
}

#[test]
fn a_path_has_the_parameters_that_are_described_and_ids_are_given_once() {
    let mut ids = BTreeSet::new();
    for operation in openapi::services().into_iter().flat_map(|(_, _, operations)| operations) {
        let parameters = operation.parameters.iter();
        let described: BTreeSet<&str> = parameters
            .filter(|parameter| parameter.place == Place::Path)
            .map(|parameter| parameter.name)
            .collect();
        let parts = operation.path.split('/');
        let in_path: BTreeSet<&str> =
            parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(described, in_path, "{} {}", operation.method, operation.path);
        assert!(ids.insert(operation.id), "{} is given twice", operation.id);
        assert!(!operation.id.is_empty() && !operation.summary.is_empty(), "{}", operation.path);
        assert!(!operation.answers.is_empty(), "{}", operation.path);
    }
}

#[test]
fn a_link_leads_to_an_operation_with_these_parameters() {
    let document = openapi::document();
    let operations = operations(&document);
    let by_id = |id: &Value| operations.values().find(|operation| operation["operationId"] == *id);
    let mut links = 0;
    for operation in operations.values() {
        for answer in operation["responses"].as_object().unwrap().values() {
            for link in answer["links"].as_object().into_iter().flat_map(|links| links.values()) {
                links += 1;
                let target = by_id(&link["operationId"]).unwrap_or_else(|| panic!("{link} leads nowhere"));
                for name in link["parameters"].as_object().unwrap().keys() {
                    let parameters = target["parameters"].as_array().unwrap();
                    assert!(parameters.iter().any(|parameter| parameter["name"] == *name), "{link}");
                }
            }
        }
    }
    assert!(links > 10, "links were looked at");
}

/// Every schema of the document with an example beside it.
fn examples(value: &Value, found: &mut Vec<(Value, Value)>) {
    if let Some(schema) = value.get("schema") {
        found.extend(value.get("example").map(|example| (schema.clone(), example.clone())));
        let several = value.get("examples").and_then(Value::as_object);
        let several = several.into_iter().flat_map(|examples| examples.values());
        found.extend(several.map(|example| (schema.clone(), example["value"].clone())));
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|field| examples(field, found)),
        Value::Array(items) => items.iter().for_each(|item| examples(item, found)),
        _ => {}
    }
}

#[test]
fn every_example_is_valid() {
    let document = openapi::document();
    let mut found = Vec::new();
    examples(&document, &mut found);
    assert!(found.len() > 100, "examples were found: {}", found.len());
    for (schema, example) in found {
        if let Err(error) = openapi::validator(&document, &schema).validate(&example) {
            panic!("{example}: {error}");
        }
    }
}

#[test]
fn every_operation_has_an_example_of_what_it_takes_and_answers() {
    for (route, operation) in operations(&openapi::document()) {
        if let Some(body) = operation["requestBody"]["content"].as_object() {
            assert!(body.values().all(|content| content["examples"].is_object()), "{route}");
        }
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let json = answer["content"].get("application/json");
            assert!(json.is_none_or(|content| content["examples"].is_object()), "{route}: {status}");
        }
    }
}

#[test]
fn a_body_with_a_field_that_is_not_described_is_not_valid() {
    let document = openapi::document();
    let mut bodies = 0;
    for (route, operation) in operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"];
        // The payment provider's events have more fields than are read.
        if body.is_null() || route == "POST /payments/webhook" {
            continue;
        }
        bodies += 1;
        let validator = openapi::validator(&document, &body["schema"]);
        let mut example = body["examples"]["example"]["value"].clone();
        assert!(validator.is_valid(&example), "{route}: {example}");
        example["is_admin"] = json!(true);
        assert!(!validator.is_valid(&example), "{route}: {example}");
    }
    assert!(bodies >= 9, "bodies were looked at: {bodies}");
}
