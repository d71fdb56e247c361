//! Reads Lambda's event as a request.
//!
//! `lambda_http` would build an `http::Request` from it, and panics if the host, the query or the body does not fit into one:
//! raw quotes in the query, a broken base64. Only what a handler needs is read here, and none of it can fail but the body.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use kernel::problem::{Kind, Problem};
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::read_json;

/// Whether an event is an HTTP request, well-formed or not.
pub(crate) fn is_request(event: &RawValue) -> bool {
    serde_json::from_str::<HashMap<String, &RawValue>>(event.get())
        .is_ok_and(|fields| fields.contains_key("requestContext"))
}

/// Reads an event; 400 if it is not a request.
pub(super) fn read(event: &RawValue) -> Result<Box<ApiGatewayV2httpRequest>, Problem> {
    read_json(event.get().as_bytes()).map_err(|error| Problem {
        cause: Some(error.into()),
        ..Problem::new(Kind::Unreadable, "the request is malformed: check its headers")
    })
}

/// The body of a request, as it was sent; 400 if it cannot be decoded.
pub(super) fn body(event: &mut ApiGatewayV2httpRequest) -> Result<Vec<u8>, Problem> {
    let body = event.body.take().unwrap_or_default();
    if !event.is_base64_encoded {
        return Ok(body.into_bytes());
    }
    STANDARD.decode(body).map_err(|_| Problem::new(Kind::Unreadable, "the body cannot be decoded"))
}

/// The route that API Gateway chose for a request: `GET /posts/{id}`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RouteKey {
    #[serde(rename = "routeKey")]
    route_key: String,
}

impl RouteKey {
    /// The route of an event of which nothing else could be read.
    pub(super) fn of(event: &RawValue) -> Self {
        serde_json::from_str(event.get()).unwrap_or_default()
    }

    /// The route as API Gateway writes it; empty if it is not known.
    pub(super) fn as_str(&self) -> &str {
        &self.route_key
    }

    /// The method and the path, each `-` if it is not known.
    pub(super) fn into_parts(self) -> (String, String) {
        let known = |part: &str| if part.is_empty() { "-".to_owned() } else { part.to_owned() };
        let (method, path) = self.route_key.split_once(' ').unwrap_or_default();
        (known(method), known(path))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn event(query: &str) -> Value {
        json!({
            "version": "2.0", "routeKey": "GET /posts", "rawPath": "/posts", "rawQueryString": query,
            "headers": {"host": "madang.example"}, "isBase64Encoded": false,
            "requestContext": {
                "accountId": "1", "apiId": "a", "stage": "$default", "requestId": "r", "routeKey": "GET /posts",
                "domainName": "madang.example", "domainPrefix": "madang", "time": "t", "timeEpoch": 1,
                "http": {"method": "GET", "path": "/posts", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "u"},
            },
        })
    }

    fn raw(event: &Value) -> Box<RawValue> {
        to_raw_value(event).unwrap()
    }

    #[test]
    fn any_host_query_and_path_is_read() {
        for query in ["limit=1", "a=\"b\"", "<>", "%zz", "a=\u{e9}"] {
            assert_eq!(read(&raw(&event(query))).unwrap().raw_query_string.as_deref(), Some(query));
        }
        let mut odd = event("");
        odd["headers"] = json!({"host": "a b<c>", "x-forwarded-proto": "\"", "x-forwarded-port": "x"});
        odd["rawPath"] = json!("//posts\" <é>#?");
        assert_eq!(read(&raw(&odd)).unwrap().raw_path.as_deref(), Some("//posts\" <é>#?"));
    }

    #[test]
    fn what_is_not_a_request_is_unreadable_and_keeps_its_route() {
        let mut control = event("");
        control["headers"]["host"] = json!("secret\u{1}");
        let mut cut = event("");
        cut["requestContext"] = json!({"http": 7});
        for event in [control, cut] {
            let event = raw(&event);
            assert!(is_request(&event), "{event}");
            let problem = read(&event).unwrap_err();
            assert_eq!(problem.kind, Kind::Unreadable, "{event}");
            assert!(!problem.cause.unwrap().to_string().contains("secret"));
            assert_eq!(RouteKey::of(&event).into_parts(), ("GET".to_owned(), "/posts".to_owned()));
        }
    }

    #[test]
    fn a_body_is_decoded_or_unreadable() {
        for (sent, base64, expected) in [
            (json!("e30="), true, Some(&b"{}"[..])),
            (json!("4\u{e9}"), true, None),
            (json!("e30"), true, None),
            (json!("e30="), false, Some(&b"e30="[..])),
            (json!(null), true, Some(&b""[..])),
        ] {
            let mut event = event("");
            (event["body"], event["isBase64Encoded"]) = (sent, json!(base64));
            let body = body(&mut read(&raw(&event)).unwrap());
            assert_eq!(body.ok().as_deref(), expected, "{event}");
        }
    }

    #[test]
    fn what_has_no_request_context_is_not_a_request() {
        for event in [json!({"id": "7"}), json!([1]), json!(null)] {
            assert!(!is_request(&raw(&event)), "{event}");
            assert_eq!(RouteKey::of(&raw(&event)).into_parts(), ("-".to_owned(), "-".to_owned()));
        }
    }
}
