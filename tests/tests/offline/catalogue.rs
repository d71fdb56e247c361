//! The files in `events/` match the code.

use std::{collections::BTreeSet, fs, path::Path};

use aws_lambda_events::{apigw::ApiGatewayV2httpRequest, dynamodb, sqs::SqsEvent};
use serde_json::Value;
use system_tests::catalogue;

fn here(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(path)
}

fn files(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(here(folder)).expect(folder);
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn json(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(here(path)).expect(path)).expect(path)
}

/// Reads an example into the type that its publisher and consumers use, and serializes it again.
fn through_code(example: &Value) -> Value {
    catalogue::through_code(example).expect("the example is an event")
}

#[test]
fn every_event_has_a_schema_and_an_example_that_match_the_code() {
    let expected: BTreeSet<String> =
        catalogue::schemas().into_keys().map(|name| format!("{}.json", name.stem())).collect();
    assert_eq!(files("schemas"), expected);
    assert_eq!(files("examples"), expected);
    for file in files("schemas") {
        let schema = json(&format!("schemas/{file}"));
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let example = json(&format!("examples/{file}"));
        let event_type = example["type"].as_str().unwrap();
        assert_eq!(file, format!("{event_type}.v{}.json", example["schemaversion"]), "the file's name");
        assert!(validator.is_valid(&example), "{file}: {:?}", validator.validate(&example));
        assert_eq!(through_code(&example), example, "{file}");
    }
}

#[test]
fn a_schema_rejects_an_event_that_lacks_a_required_field() {
    for file in files("schemas") {
        let schema = json(&format!("schemas/{file}"));
        let validator = jsonschema::validator_for(&schema).unwrap();
        for required in schema["required"].as_array().unwrap() {
            let mut example = json(&format!("examples/{file}"));
            example.as_object_mut().unwrap().remove(required.as_str().unwrap());
            assert!(!validator.is_valid(&example), "{file} without {required}");
        }
        for required in schema["properties"]["data"]["required"].as_array().unwrap() {
            let mut example = json(&format!("examples/{file}"));
            example["data"].as_object_mut().unwrap().remove(required.as_str().unwrap());
            assert!(!validator.is_valid(&example), "{file} without data/{required}");
        }
    }
}

#[test]
fn no_event_carries_an_email_address() {
    for file in files("schemas") {
        let data = json(&format!("schemas/{file}"))["properties"]["data"]["properties"].clone();
        assert!(!data.as_object().unwrap().keys().any(|field| field.contains("mail")), "{file}");
    }
}

/// The names of all functions, from the sources of their binaries.
fn functions() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for service in fs::read_dir(here("../functions")).unwrap() {
        let Ok(binaries) = fs::read_dir(service.unwrap().path().join("src/bin")) else { continue };
        for binary in binaries {
            found.insert(binary.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    assert!(found.contains("users-get"), "users-get was not found");
    found
}

#[test]
fn every_function_has_a_sample_input_of_the_type_that_it_takes() {
    let expected: BTreeSet<String> = functions().iter().map(|function| format!("{function}.json")).collect();
    let found = files("invoke");
    let missing = expected.difference(&found).map(|file| {
        format!(
            "events/invoke/{file} is missing: `make contract` writes it for a function of the API; for a consumer or a step \
             of the saga, copy another one's and change it."
        )
    });
    let obsolete = found.difference(&expected);
    let obsolete = obsolete.map(|file| format!("events/invoke/{file} belongs to no function: remove it."));
    let wrong: Vec<String> = missing.chain(obsolete).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for file in files("invoke") {
        let input = json(&format!("invoke/{file}"));
        if input["Records"][0]["eventSource"] == "aws:sqs" {
            let batch: SqsEvent = serde_json::from_value(input).expect(&file);
            for message in batch.records {
                let body: Value = serde_json::from_str(&message.body.unwrap()).expect(&file);
                let event = &body["detail"];
                assert_eq!(&through_code(event), event, "{file}");
                assert_eq!(
                    (&body["detail-type"], &body["source"]),
                    (&event["type"], &event["source"]),
                    "{file}"
                );
            }
        } else if input["Records"][0]["eventSource"] == "aws:dynamodb" {
            let batch: dynamodb::Event = serde_json::from_value(input).expect(&file);
            assert!(!batch.records.is_empty());
        } else if input.get("requestContext").is_some() {
            let request: ApiGatewayV2httpRequest = serde_json::from_value(input).expect(&file);
            assert_eq!(request.raw_path, request.request_context.http.path, "{file}");
            if let Some(body) = request.body {
                serde_json::from_str::<Value>(&body).expect(&file);
            }
        } else if file == "orders-reconcile.json" {
            assert_eq!(input, serde_json::json!({}), "a scheduled function needs no input");
        } else {
            // A step of the saga.
            assert!(input["order_id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok(), "{file}");
        }
    }
}
