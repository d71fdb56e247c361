//! `infra/openapi.json` matches the code, is consistent in itself, and has the forms that generators of clients need.
//! `tests/templates/test_api.py` compares it with the templates.

use std::collections::{BTreeMap, BTreeSet};

use kernel::contract::{Operation, ParameterIn};
use serde_json::{Value, json};
use system_tests::{files, openapi, templates};

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

/// The service of an operation.
fn service_of(operation: &Operation) -> &'static str {
    let mut services = openapi::services().into_iter();
    let (service, ..) = services
        .find(|(.., operations)| operations.iter().any(|one| one.id == operation.id))
        .expect("an operation belongs to a service");
    service
}

#[test]
fn a_browser_may_read_every_described_header() {
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
struct Served {
    /// The source of its binary.
    binary: String,
    function: String,
    /// The handler: `endpoints::create`.
    handler: String,
    service: String,
    /// The parameters that its query can have.
    query: BTreeSet<String>,
}

/// The endpoints that the functions serve, by method and path.
fn served() -> BTreeMap<String, Served> {
    let mut served: BTreeMap<String, Served> = BTreeMap::new();
    for service in files::names("functions") {
        let folder = format!("functions/{service}/src/bin");
        if !files::at(&folder).is_dir() {
            continue;
        }
        for file in files::names(&folder) {
            let binary = format!("{folder}/{file}");
            for endpoint in files::text(&binary).split(".on(").skip(1) {
                let (arguments, _) = endpoint.split_once(')').unwrap();
                let arguments: Vec<&str> = arguments.split('"').collect();
                let [_, method, _, path, handler] = arguments[..] else { panic!("{binary}: {arguments:?}") };
                // The last one may be followed by a comma.
                let handler = handler.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_owned();
                let (path, query) = path.split_once("{?").unwrap_or((path, "}"));
                let query = query.strip_suffix('}').unwrap().split(',').filter(|name| !name.is_empty());
                let query = query.map(str::to_owned).collect();
                let (route, function) = (format!("{method} {path}"), file.trim_end_matches(".rs").to_owned());
                let service = service.clone();
                if let Some(other) = served.get(&route) {
                    panic!("{route} is served by two functions: {} and {binary}", other.binary);
                }
                served.insert(route, Served { binary: binary.clone(), function, handler, service, query });
            }
        }
    }
    served
}

#[test]
fn every_operation_is_served_by_the_function_and_handler_in_its_contract() {
    let served = served();
    let mut mistakes = Vec::new();
    for operation in openapi::operations() {
        let Operation { function, method, path, handler, .. } = operation;
        let query = operation.parameters.iter().filter(|parameter| parameter.location == ParameterIn::Query);
        let query: Vec<&str> = query.map(|parameter| parameter.name).collect();
        let template = if query.is_empty() { String::new() } else { format!("{{?{}}}", query.join(",")) };
        let (route, service) = (format!("{method} {path}"), service_of(&operation));
        let contract = format!("functions/{service}/src/contract.rs");
        let binary = format!("functions/{service}/src/bin/{function}.rs");
        let call = format!(".on(\"{method}\", \"{path}{template}\", {handler})");
        match served.get(&route) {
            Some(by) if by.function != function || by.service != service => mistakes.push(format!(
                "{contract} says that {function} serves {route}, but {} does: name the same function in both.",
                by.binary
            )),
            Some(by) if by.handler != handler => mistakes.push(format!(
                "{contract} says that {handler} answers {route}, but in {binary} {} does: name the same handler in both.",
                by.handler
            )),
            Some(by) if by.query != query.iter().map(ToString::to_string).collect() => mistakes.push(format!(
                "{contract} has the query parameters {query:?} for {route}, and {binary} has {:?}: write `{call}`.",
                by.query
            )),
            Some(_) => {}
            None if files::at(&binary).is_file() => mistakes.push(format!(
                "{binary} does not serve {route}, but {contract} says that it does: add `{call}`."
            )),
            None => mistakes.push(format!(
                "{binary} is missing, but {contract} says that it serves {route}: copy another binary of the service and write `{call}`."
            )),
        }
    }
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}

#[test]
fn every_endpoint_that_a_function_serves_is_described() {
    let described: BTreeSet<String> =
        openapi::operations().map(|operation| format!("{} {}", operation.method, operation.path)).collect();
    let mistakes: Vec<String> = served()
        .into_iter()
        .filter(|(route, _)| !described.contains(route))
        .map(|(route, Served { binary, function, handler, service, .. })| {
            let arguments = route.replace(' ', "\", \"");
            format!(
                "functions/{service}/src/contract.rs does not describe {route}, which {binary} serves: add \
                 `operation!(\"{function}\", \"{arguments}\", {handler})` with its parameters and answers."
            )
        })
        .collect();
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}

#[test]
fn every_operation_and_path_parameter_is_described_and_operation_ids_are_unique() {
    let mut ids = BTreeMap::new();
    for operation in openapi::operations() {
        let (method, path) = (operation.method, operation.path);
        let here = format!("functions/{}/src/contract.rs: {method} {path}", service_of(&operation));
        let parameters = operation.parameters.iter();
        let described: BTreeSet<&str> = parameters
            .filter(|parameter| parameter.location == ParameterIn::Path)
            .map(|parameter| parameter.name)
            .collect();
        let parts = path.split('/');
        let in_path: BTreeSet<&str> =
            parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        if let Some(name) = in_path.difference(&described).next() {
            panic!(
                "{here} does not describe {{{name}}}: add `.path::<Uuid>(\"{name}\", …)`, or with another type."
            );
        }
        if let Some(name) = described.difference(&in_path).next() {
            panic!("{here} describes {{{name}}}, which its path does not have.");
        }
        assert!(
            !operation.id.is_empty() && !operation.summary.is_empty(),
            "{here} has no name: add `.named(\"<id>\", \"<summary>\")`."
        );
        assert!(
            !operation.description.is_empty(),
            "{here} says nothing beyond its summary, which linters refuse: add `.about(\"<a sentence>\")`."
        );
        assert!(!operation.answers.is_empty(), "{here} has no answer: add `.answers::<…>(200, …)`.");
        if let Some(other) = ids.insert(operation.id, here.clone()) {
            panic!(
                "{here} has the same id as {other}, {}: clients call an operation by its id.",
                operation.id
            );
        }
    }
}

#[test]
fn every_link_leads_to_an_operation_with_its_parameters() {
    let document = openapi::document();
    let operations = operations(&document);
    let by_id = |id: &Value| operations.values().find(|operation| operation["operationId"] == *id);
    let mut links = 0;
    for operation in operations.values() {
        for answer in operation["responses"].as_object().unwrap().values() {
            for link in answer["links"].as_object().into_iter().flat_map(|links| links.values()) {
                links += 1;
                let target =
                    by_id(&link["operationId"]).unwrap_or_else(|| panic!("{link} leads to no operation"));
                for name in link["parameters"].as_object().unwrap().keys() {
                    let parameters = target["parameters"].as_array().unwrap();
                    assert!(parameters.iter().any(|parameter| parameter["name"] == *name), "{link}");
                }
            }
        }
    }
    assert!(links > 10, "too few links were found: {links}");
}

/// Collects every schema of the document that has an example, with the example.
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
    for document in [openapi::document(), openapi::exact()] {
        let mut found = Vec::new();
        examples(&document, &mut found);
        assert!(found.len() > 100, "too few examples were found: {}", found.len());
        for (schema, example) in found {
            if let Err(error) = openapi::validator(&document, &schema).validate(&example) {
                panic!("{example}: {error}");
            }
        }
    }
}

#[test]
fn all_errors_of_an_operation_have_one_type_for_generators() {
    let document = openapi::document();
    let mut errors = 0;
    for (route, operation) in operations(&document) {
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let Some(name) =
                answer["$ref"].as_str().and_then(|path| path.strip_prefix("#/components/responses/"))
            else {
                assert!(status < &"400".to_owned(), "{route}: {status} is no shared answer");
                continue;
            };
            errors += 1;
            let media = &document["components"]["responses"][name]["content"]["application/json"];
            assert_eq!(media["schema"], json!({"$ref": "#/components/schemas/Refusal"}), "{route}: {status}");
        }
    }
    assert!(errors > 100, "too few errors were found: {errors}");
}

#[test]
fn what_is_really_answered_has_the_status_and_type_of_its_problems() {
    let document = openapi::exact();
    let responses = &document["components"]["responses"];
    let conflict = &responses["Conflict"]["content"];
    assert_eq!(conflict.as_object().unwrap().keys().collect::<Vec<_>>(), ["application/problem+json"]);
    let validator = openapi::validator(&document, &conflict["application/problem+json"]["schema"]);
    let problem = &conflict["application/problem+json"]["examples"]["conflict"]["value"];
    assert!(validator.is_valid(problem), "{problem}");
    for (field, other) in [("status", json!(404)), ("type", json!("urn:madang:problem:not-found"))] {
        let mut wrong = problem.clone();
        wrong[field] = other;
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
    let gateway = &responses["GatewayTooManyRequests"]["content"]["application/json"];
    assert_eq!(gateway["schema"], json!({"$ref": "#/components/schemas/GatewayMessage"}));
    assert!(!document.to_string().contains("x-exact-schema"));
}

/// The name that generators give the type of a field that has no name of its own, as `PostTitle` for `title` in `Post`.
fn name_of_field(schema: &str, field: &str) -> String {
    let words = field.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    schema.to_owned() + &words.collect::<String>()
}

#[test]
fn no_schema_has_the_name_that_generators_give_to_a_field() {
    let document = openapi::document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut fields = 0;
    for (name, schema) in schemas {
        for (field, value) in schema["properties"].as_object().into_iter().flatten() {
            // A field that refers to a schema has that one's name.
            if value.get("$ref").is_none() {
                fields += 1;
                let taken = name_of_field(name, field);
                assert!(
                    !schemas.contains_key(&taken),
                    "rename the schema {taken}: {name} has a field {field}"
                );
            }
        }
    }
    assert!(fields > 50, "too few fields were found: {fields}");
}

#[test]
fn every_request_body_and_answer_has_an_example() {
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
fn a_body_with_an_undescribed_field_is_invalid() {
    let document = openapi::document();
    let mut bodies = 0;
    for (route, operation) in operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"];
        // The payment provider's events have more fields than the function reads.
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
    assert!(bodies >= 9, "too few bodies were found: {bodies}");
}
