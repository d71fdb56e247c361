//! What a handler can answer.

use aws_lambda_events::{apigw::ApiGatewayV2httpResponse, encodings::Body};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use kernel::{
    precondition,
    problem::{self, Problem},
};
use serde::Serialize;
use serde_json::Value;

/// The answer to a successful request.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Option<Content>,
}

/// The body of an answer.
#[derive(Debug)]
struct Content {
    media_type: &'static str,
    bytes: Body,
}

impl Content {
    fn json(media_type: &'static str, body: &Value) -> Self {
        Self { media_type, bytes: Body::Text(body.to_string()) }
    }
}

impl Reply {
    fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_value(body).map_err(Problem::internal)?;
        let body = Some(Content::json("application/json", &body));
        Ok(Self { status, headers: HeaderMap::new(), body })
    }

    fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: None }
    }

    /// 200 with a body.
    pub fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, body)
    }

    /// 201 with a body and the `Location` of what was created.
    pub fn created(body: &impl Serialize, location: &str) -> Result<Self, Problem> {
        let mut reply = Self::json(StatusCode::CREATED, body)?;
        reply.headers.insert(header::LOCATION, HeaderValue::from_str(location).map_err(Problem::internal)?);
        Ok(reply)
    }

    /// 202 with a body and the `Location` at which the progress can be seen.
    pub fn accepted_at(body: &impl Serialize, location: &str) -> Result<Self, Problem> {
        Ok(Self { status: StatusCode::ACCEPTED, ..Self::created(body, location)? })
    }

    /// 202 without a body.
    pub fn accepted() -> Self {
        Self::empty(StatusCode::ACCEPTED)
    }

    /// 204.
    pub fn no_content() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    /// 200 with a body of a media type.
    pub fn content(media_type: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        let body = Some(Content { media_type, bytes: Body::Binary(bytes.into()) });
        Self { body, ..Self::empty(StatusCode::OK) }
    }

    /// 304: the client has the current representation.
    pub fn not_modified() -> Self {
        Self::empty(StatusCode::NOT_MODIFIED)
    }

    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Its `Location`.
    pub(super) fn location(&self) -> Option<&str> {
        self.headers.get(header::LOCATION)?.to_str().ok()
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds the `ETag` of a version.
    #[must_use]
    pub fn etag(mut self, version: u64) -> Self {
        self.headers.insert(header::ETAG, precondition::entity_tag(version));
        self
    }

    /// The answer in the form that API Gateway takes.
    pub(super) fn into_response(self) -> ApiGatewayV2httpResponse {
        let Self { status, mut headers, body } = self;
        if let Some(body) = &body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(body.media_type));
        }
        // Answers can contain personal data: they must not be cached, unless the handler says otherwise.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let mut response = ApiGatewayV2httpResponse::default();
        response.status_code = i64::from(status.as_u16());
        response.headers = headers;
        response.is_base64_encoded = matches!(&body, Some(Content { bytes: Body::Binary(_), .. }));
        response.body = body.map(|body| body.bytes);
        response
    }
}

/// The problem document of a failed request. `instance` identifies the request.
pub(super) fn problem_response(problem: &Problem, instance: &str) -> ApiGatewayV2httpResponse {
    let mut reply = Reply::empty(problem.kind.status());
    if let Some(seconds) = problem.retry_after {
        reply.headers.insert(header::RETRY_AFTER, seconds.into());
    }
    reply.body = Some(Content::json(problem::MEDIA_TYPE, &problem.to_json(instance)));
    reply.into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_binary_body_is_base64_and_keeps_the_handlers_cache_control() {
        let reply = Reply::content("image/png", [0x89, 0x50])
            .header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let answer = serde_json::to_value(reply.into_response()).unwrap();
        assert_eq!((&answer["body"], &answer["isBase64Encoded"]), (&json!("iVA="), &json!(true)));
        assert_eq!(answer["headers"]["content-type"], "image/png");
        assert_eq!(answer["headers"]["cache-control"], "no-cache");

        let reply = Reply::ok(&json!({"a": 1})).unwrap();
        let answer = serde_json::to_value(reply.into_response()).unwrap();
        assert_eq!((&answer["body"], &answer["isBase64Encoded"]), (&json!(r#"{"a":1}"#), &json!(false)));
        assert_eq!(answer["headers"]["cache-control"], "no-store");

        let reply = Reply::not_modified();
        let answer = serde_json::to_value(reply.into_response()).unwrap();
        assert_eq!((&answer["statusCode"], &answer["headers"]["content-type"]), (&json!(304), &json!(null)));
    }
}
