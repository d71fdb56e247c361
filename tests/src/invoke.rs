//! Generates the requests for `cargo lambda invoke` in `events/invoke/`: one for each function of the API, from the examples
//! in its contract.

use std::collections::BTreeMap;

use kernel::contract::{Access, Operation, ParameterIn};
use serde_json::{Value, json};

use crate::{files, openapi};

const CALLER: &str = "0190a6c4-7d1e-7b52-9c3f-2f0c1e8a4b10";

/// The requests, by the paths of their files. If a function serves several operations, the request is for the first that
/// changes something, or else for the first.
pub(crate) fn requests() -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, Operation> = BTreeMap::new();
    for operation in openapi::operations() {
        match chosen.get(operation.function) {
            Some(earlier) if earlier.method != "GET" || operation.method == "GET" => {}
            _ => drop(chosen.insert(operation.function, operation)),
        }
    }
    chosen
        .into_iter()
        .map(|(function, operation)| {
            (format!("events/invoke/{function}.json"), files::pretty(&request(&operation)))
        })
        .collect()
}

/// The input that API Gateway gives an operation's function (payload format 2.0).
fn request(operation: &Operation) -> Value {
    let route = format!("{} {}", operation.method, operation.path);
    let mut path = operation.path.to_owned();
    let mut parameters = json!({});
    for parameter in operation.parameters.iter().filter(|parameter| parameter.location == ParameterIn::Path) {
        let example = parameter.example.as_str().expect("a path parameter is a string");
        path = path.replace(&format!("{{{}}}", parameter.name), example);
        parameters[parameter.name] = json!(example);
    }
    let mut event = json!({
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers(operation),
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "5c0ffee5",
            "domainName": "127.0.0.1",
            "domainPrefix": "5c0ffee5",
            "http": {
                "method": operation.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "cargo-lambda",
            },
            "requestId": "invoke",
            "routeKey": route,
            "stage": "$default",
            "time": "04/May/2026:09:30:00 +0000",
            "timeEpoch": 1_777_887_000_000_u64,
        },
        "isBase64Encoded": false,
    });
    if parameters != json!({}) {
        event["pathParameters"] = parameters;
    }
    if let Some(caller) = authorizer(operation) {
        event["requestContext"]["authorizer"] = caller;
    }
    if let Some(body) = &operation.body {
        event["body"] = json!(body.example.to_string());
    }
    event
}

/// The required headers, and those that make a repeat safe.
fn headers(operation: &Operation) -> Value {
    let mut headers = json!({"accept": "application/json", "host": "127.0.0.1"});
    if operation.body.is_some() {
        headers["content-type"] = json!("application/json");
    }
    for parameter in operation.parameters.iter().filter(|parameter| parameter.location == ParameterIn::Header)
    {
        let sent = parameter.required
            || parameter.name == "Idempotency-Key"
            // The request creates the object. Changing it takes `If-Match` instead.
            || (parameter.name == "If-None-Match" && operation.method == "PUT")
            // The provider's signature.
            || operation.access == Access::Provider;
        if sent {
            headers[parameter.name.to_lowercase()] = parameter.example.clone();
        }
    }
    headers
}

/// The caller, in the form of API Gateway's authorizer.
fn authorizer(operation: &Operation) -> Option<Value> {
    match operation.access {
        Access::Everyone | Access::Provider => None,
        Access::SignedIn => {
            let groups = format!("[{}]", operation.group.unwrap_or_default());
            Some(json!({
                "jwt": {
                    "claims": {
                        "sub": CALLER, "username": CALLER, "token_use": "access", "client_id": "local",
                        "cognito:groups": groups,
                    },
                    "scopes": null,
                },
            }))
        }
        Access::Principal => Some(json!({
            "iam": {
                "accessKey": "test", "accountId": "000000000000", "callerId": "000000000000",
                "userArn": "arn:aws:iam::000000000000:root", "userId": "000000000000",
            },
        })),
    }
}
