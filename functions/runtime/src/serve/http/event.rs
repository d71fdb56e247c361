//! Turns Lambda's event into a request.

use std::collections::HashMap;

use kernel::problem::Problem;
use lambda_http::{Request, request::LambdaRequest};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{error::read_json, telemetry};

/// Whether an event is an HTTP request, well-formed or not.
pub(crate) fn is_request(event: &RawValue) -> bool {
    serde_json::from_str::<HashMap<String, &RawValue>>(event.get())
        .is_ok_and(|fields| fields.contains_key("requestContext"))
}

/// The request of an event. `lambda_http` panics at some that it cannot build, such as one with raw quotes in its query.
pub(super) fn read(event: &RawValue) -> Result<Request, Problem> {
    let event: LambdaRequest = read_json(event.get().as_bytes()).map_err(Problem::internal)?;
    telemetry::reporting_panics(|| event.into())
        .map_err(|_| Problem::internal("the request could not be built"))
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

    /// The method and the path, each `-` if it is not known.
    pub(super) fn into_parts(self) -> (String, String) {
        let known = |part: &str| if part.is_empty() { "-".to_owned() } else { part.to_owned() };
        let (method, path) = self.route_key.split_once(' ').unwrap_or_default();
        (known(method), known(path))
    }
}

#[cfg(test)]
mod tests {
    use kernel::problem::Kind;
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
    fn a_request_that_cannot_be_built_is_a_problem_and_keeps_its_route() {
        assert_eq!(read(&raw(&event("limit=1"))).unwrap().uri().path(), "/posts");
        let mut odd = event("");
        odd["headers"]["host"] = json!("\u{1}");
        let mut cut = event("");
        cut["requestContext"] = json!({"http": 7});
        for event in [event("a=\"b\""), odd, cut] {
            let event = raw(&event);
            assert!(is_request(&event), "{event}");
            assert_eq!(read(&event).unwrap_err().kind, Kind::Internal, "{event}");
            assert_eq!(RouteKey::of(&event).into_parts(), ("GET".to_owned(), "/posts".to_owned()));
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
