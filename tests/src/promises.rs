//! Checks answers against the API's description. Every answer that a test gets is checked, so that handlers and description
//! cannot diverge.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use jsonschema::Validator;
use kernel::problem;
use matchit::Router;
use serde_json::{Value, json};

use crate::{Answer, openapi};

/// The path of the local API Gateway, which an API's id and the API's own path follow.
const GATEWAY: &str = "/_aws/execute-api/";

static PROMISES: LazyLock<Promises> = LazyLock::new(Promises::read);

struct Promises {
    document: Value,
    paths: Router<String>,
    /// Validators of bodies and headers, by their schemas.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// Asserts that an answer is as its operation describes it. Without an operation nothing is checked.
///
/// `path` is that of a URL.
pub(crate) fn hold(method: &str, path: &str, answer: &Answer) {
    let Some((_, path)) = path.strip_prefix(GATEWAY).and_then(|path| path.split_once('/')) else { return };
    if let Err(broken) = PROMISES.kept(&method.to_lowercase(), &format!("/{path}"), answer) {
        let said = answer.body.to_string().chars().take(1000).collect::<String>();
        panic!("{method} /{path} is not answered as infra/openapi.json says: {broken}: {said}");
    }
}

impl Promises {
    fn read() -> Self {
        let document = openapi::document();
        let mut paths = Router::new();
        for path in document["paths"].as_object().expect("paths").keys() {
            paths.insert(path, path.clone()).expect("a path");
        }
        Self { document, paths, validators: Mutex::default() }
    }

    fn kept(&self, method: &str, path: &str, answer: &Answer) -> Result<(), String> {
        let Ok(found) = self.paths.at(path) else { return Ok(()) };
        let Some(operation) = self.document["paths"][found.value].get(method) else { return Ok(()) };
        let status = answer.status.as_u16();
        let described = operation["responses"].get(status.to_string());
        let described = self.resolved(described.ok_or_else(|| format!("there is no {status}"))?);
        for (name, header) in described["headers"].as_object().into_iter().flatten() {
            self.header(name, self.resolved(header), answer)?;
        }
        let Some(content) = described["content"].as_object() else {
            return if answer.body.is_null() { Ok(()) } else { Err(format!("{status} has no body")) };
        };
        // The emulator refuses an AWS principal in its own words; API Gateway in those that are described.
        if answer.header("x-amzn-errortype").is_some() {
            return Ok(());
        }
        let said = answer.header("content-type").unwrap_or_default();
        let media_type = said.split(';').next().unwrap_or_default().trim();
        let found = content.iter().find(|(known, _)| known.split(';').next() == Some(media_type));
        let (_, content) = found.ok_or_else(|| format!("{status} is no {media_type}"))?;
        // What is compressed is left as it is.
        if !media_type.ends_with("json") || answer.header("content-encoding").is_some() {
            return Ok(());
        }
        let validator = self.validator(&content["schema"]);
        let errors: Vec<String> = validator
            .iter_errors(&answer.body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    fn header(&self, name: &str, described: &Value, answer: &Answer) -> Result<(), String> {
        let Some(value) = answer.header(name) else {
            // What API Gateway's own answers leave out, which are no problem documents, is not required of any answer.
            let is_problem = answer.header("content-type") == Some(problem::MEDIA_TYPE);
            return if described["required"] == json!(true) || is_problem {
                Err(format!("{name} is missing"))
            } else {
                Ok(())
            };
        };
        let value = match described["schema"]["type"].as_str() {
            Some("integer") => value.parse::<i64>().map_or(Value::Null, |number| json!(number)),
            _ => json!(value),
        };
        let valid = self.validator(&described["schema"]).is_valid(&value);
        if valid { Ok(()) } else { Err(format!("{name} is {value}")) }
    }

    /// The target of a reference.
    fn resolved<'a>(&'a self, part: &'a Value) -> &'a Value {
        let target = part["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        target.map_or(part, |pointer| self.document.pointer(pointer).expect("a reference leads somewhere"))
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = validators
            .entry(schema.to_string())
            .or_insert_with(|| Arc::new(openapi::validator(&self.document, schema)));
        Arc::clone(standing)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{
        StatusCode,
        header::{HeaderMap, HeaderName, HeaderValue},
    };

    use super::*;

    const TITLE_MISSING: &str = r#"{"type": "urn:madang:problem:invalid", "title": "t", "status": 422, "detail": "d",
        "instance": "urn:uuid:6f1c2f9e-3b1d-4c8e-9a53-0d2f4c8e9a53", "errors": [{"pointer": "/title", "detail": "d"}]}"#;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().chain([&TRACE]).map(pair).collect::<HeaderMap>(),
            body: serde_json::from_str(body).unwrap(),
        }
    }

    const TRACE: (&str, &str) = ("traceresponse", "00-69f868da4a5b6c7d8e9f0a1b2c3d4e5f-53995c3f42cd8ad8-01");

    fn broken(method: &str, path: &str, answer: &Answer) -> Option<String> {
        PROMISES.kept(method, path, answer).err()
    }

    #[test]
    fn what_is_described_is_kept_and_what_is_described_nowhere_is_not_promised() {
        let invalid = answer(422, &[("content-type", "application/problem+json")], TITLE_MISSING);
        assert_eq!(broken("post", "/posts", &invalid), None);
        assert_eq!(broken("post", "/nowhere", &invalid), None);
        assert_eq!(broken("put", "/posts", &invalid), None);
        assert_eq!(broken("delete", "/posts/1", &answer(204, &[], "null")), None);
    }

    #[test]
    fn another_status_media_type_body_or_header_is_told() {
        let problem = ("content-type", "application/problem+json");
        let told = |method, path, answer| broken(method, path, &answer).unwrap();
        assert_eq!(told("post", "/posts", answer(418, &[problem], TITLE_MISSING)), "there is no 418");
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(told("post", "/posts", answer(422, &[json], TITLE_MISSING)), "422 is no application/json");
        let without = TITLE_MISSING.replace("urn:madang:problem:invalid", "urn:madang:problem:conflict");
        let error = told("post", "/posts", answer(422, &[problem], &without));
        assert!(error.starts_with("/type: "), "{error}");
        assert_eq!(told("delete", "/posts/1", answer(204, &[json], "{}")), "204 has no body");
        assert_eq!(told("get", "/users/me", answer(200, &[json], "{}")), "ETag is missing");
        let error = told("get", "/users/me", answer(200, &[json, ("etag", "W/\"1\"")], "{}"));
        assert_eq!(error, r#"ETag is "W/\"1\"""#);
    }

    #[test]
    fn an_answer_of_a_function_names_its_trace_and_one_of_the_gateway_need_not() {
        let without = |mut answer: Answer| {
            answer.headers.remove("traceresponse");
            answer
        };
        let told = |method, path, answer| broken(method, path, &without(answer));
        let missing = Some("traceresponse is missing".to_owned());
        let problem = [("content-type", "application/problem+json")];
        // 415 is a function's alone, 500 the gateway's as well.
        let media_type = TITLE_MISSING.replace("invalid", "unsupported-media-type").replace("422", "415");
        assert_eq!(told("delete", "/posts/1", answer(204, &[], "null")), missing);
        assert_eq!(told("post", "/posts", answer(415, &problem, &media_type)), missing);
        let internal = TITLE_MISSING.replace("invalid", "internal").replace("422", "500");
        assert_eq!(told("post", "/posts", answer(500, &problem, &internal)), missing);
        let gateway =
            answer(500, &[("content-type", "application/json")], r#"{"message": "Internal Server Error"}"#);
        assert_eq!(told("post", "/posts", gateway), None);
    }
}
