//! Checks every answer that a test gets against the API's description, so that handlers and description cannot diverge.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use jsonschema::Validator;
use kernel::problem;
use matchit::Router;
use serde_json::{Value, json};

use crate::{Answer, openapi};

/// The prefix of every path at the local API Gateway. The API's id and the path within the API follow.
const GATEWAY: &str = "/_aws/execute-api/";

static PROMISES: LazyLock<Promises> = LazyLock::new(Promises::read);

struct Promises {
    document: Value,
    paths: Router<String>,
    /// The validators of bodies and headers, by their schemas.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// Asserts that an answer is one that its operation describes. If the request matches no operation, nothing is checked.
///
/// `path` is the path of the request's URL.
pub(crate) fn check(method: &str, path: &str, answer: &Answer) {
    let Some((_, path)) = path.strip_prefix(GATEWAY).and_then(|path| path.split_once('/')) else { return };
    if let Err(violation) = PROMISES.check(&method.to_lowercase(), &format!("/{path}"), answer) {
        let body = answer.body.to_string().chars().take(1000).collect::<String>();
        panic!("{method} /{path} is not answered as infra/openapi.json says: {violation}: {body}");
    }
}

impl Promises {
    fn read() -> Self {
        let document = openapi::exact();
        let mut paths = Router::new();
        for path in document["paths"].as_object().expect("paths").keys() {
            paths.insert(path, path.clone()).expect("a path");
        }
        Self { document, paths, validators: Mutex::default() }
    }

    fn check(&self, method: &str, path: &str, answer: &Answer) -> Result<(), String> {
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
        // If IAM denies access, the emulator's answer differs from that of API Gateway, which is the described one.
        if answer.header("x-amzn-errortype").is_some() {
            return Ok(());
        }
        let content_type = answer.header("content-type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let found = content.iter().find(|(known, _)| known.split(';').next() == Some(media_type));
        let (_, content) = found.ok_or_else(|| format!("{status} is no {media_type}"))?;
        // Compressed bodies are not parsed.
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
            // A header is described as optional if API Gateway's own answers lack it. A function's problem documents must
            // still have it.
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

    /// The target of a reference, or the part itself if it is none.
    fn resolved<'a>(&'a self, part: &'a Value) -> &'a Value {
        let target = part["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        target.map_or(part, |pointer| self.document.pointer(pointer).expect("a reference leads somewhere"))
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let validator = validators
            .entry(schema.to_string())
            .or_insert_with(|| Arc::new(openapi::validator(&self.document, schema)));
        Arc::clone(validator)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{
        StatusCode, Url,
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
            url: Url::parse("http://madang.example/").unwrap(),
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().chain([&TRACE]).map(pair).collect::<HeaderMap>(),
            body: serde_json::from_str(body).unwrap(),
        }
    }

    const TRACE: (&str, &str) = ("traceresponse", "00-69f868da4a5b6c7d8e9f0a1b2c3d4e5f-53995c3f42cd8ad8-01");

    fn violation(method: &str, path: &str, answer: &Answer) -> Option<String> {
        PROMISES.check(method, path, answer).err()
    }

    #[test]
    fn a_described_answer_conforms_and_an_undescribed_route_is_not_checked() {
        let invalid = answer(422, &[("content-type", "application/problem+json")], TITLE_MISSING);
        assert_eq!(violation("post", "/posts", &invalid), None);
        assert_eq!(violation("post", "/nowhere", &invalid), None);
        assert_eq!(violation("put", "/posts", &invalid), None);
        assert_eq!(violation("delete", "/posts/1", &answer(204, &[], "null")), None);
    }

    #[test]
    fn an_undescribed_status_media_type_body_or_header_is_reported() {
        let problem = ("content-type", "application/problem+json");
        let reported = |method, path, answer| violation(method, path, &answer).unwrap();
        assert_eq!(reported("post", "/posts", answer(418, &[problem], TITLE_MISSING)), "there is no 418");
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(
            reported("post", "/posts", answer(422, &[json], TITLE_MISSING)),
            "422 is no application/json"
        );
        let without = TITLE_MISSING.replace("urn:madang:problem:invalid", "urn:madang:problem:conflict");
        let error = reported("post", "/posts", answer(422, &[problem], &without));
        assert!(error.starts_with("/type: "), "{error}");
        assert_eq!(reported("delete", "/posts/1", answer(204, &[json], "{}")), "204 has no body");
        assert_eq!(reported("get", "/users/me", answer(200, &[json], "{}")), "ETag is missing");
        let error = reported("get", "/users/me", answer(200, &[json, ("etag", "W/\"1\"")], "{}"));
        assert_eq!(error, r#"ETag is "W/\"1\"""#);
    }

    #[test]
    fn functions_must_name_the_trace_in_their_answers_and_api_gateway_need_not() {
        let without = |mut answer: Answer| {
            answer.headers.remove("traceresponse");
            answer
        };
        let reported = |method, path, answer| violation(method, path, &without(answer));
        let missing = Some("traceresponse is missing".to_owned());
        let problem = [("content-type", "application/problem+json")];
        // Only functions answer with 415. The gateway answers with 500 too.
        let media_type = TITLE_MISSING.replace("invalid", "unsupported-media-type").replace("422", "415");
        assert_eq!(reported("delete", "/posts/1", answer(204, &[], "null")), missing);
        assert_eq!(reported("post", "/posts", answer(415, &problem, &media_type)), missing);
        let internal = TITLE_MISSING.replace("invalid", "internal").replace("422", "500");
        assert_eq!(reported("post", "/posts", answer(500, &problem, &internal)), missing);
        let gateway =
            answer(500, &[("content-type", "application/json")], r#"{"message": "Internal Server Error"}"#);
        assert_eq!(reported("post", "/posts", gateway), None);
    }
}
