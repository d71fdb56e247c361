//! What a handler can answer.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use kernel::{
    precondition::{self, Preconditions, State},
    problem::{self, Kind, Problem},
};
use lambda_http::{Body, aws_lambda_events::apigw::ApiGatewayV2httpResponse};
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

    /// 201 with a body and the `Location` of what was created: a reference relative to the request's own URL (RFC 3986, section 4.2),
    /// so that it is right whatever path the API is mounted at. From `/v1/posts`, `posts/7` leads to `/v1/posts/7`.
    pub fn created(body: &impl Serialize, location: &str) -> Result<Self, Problem> {
        let mut reply = Self::json(StatusCode::CREATED, body)?;
        reply.headers.insert(header::LOCATION, HeaderValue::from_str(location).map_err(Problem::internal)?);
        Ok(reply)
    }

    /// 202 with a body and the `Location` at which the progress can be seen, as in [`Self::created`].
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

    /// The answer to a GET with these preconditions: 304 if the client has this representation, 412 if it asked for another version.
    pub(super) fn for_reader(mut self, preconditions: &Preconditions) -> Result<Self, Problem> {
        let state = match self.headers.get(header::ETAG) {
            Some(tag) => State::Tagged(tag.as_bytes()),
            None => State::Untagged,
        };
        if preconditions.is_current(state)? {
            // Headers about the content would describe a body that is not sent (RFC 9110, section 15.4.5).
            self.headers.remove(header::CONTENT_ENCODING);
            (self.status, self.body) = (StatusCode::NOT_MODIFIED, None);
        }
        Ok(self)
    }

    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Its `Location`.
    pub(super) fn location(&self) -> Option<&str> {
        self.headers.get(header::LOCATION)?.to_str().ok()
    }

    /// Adapts `Location` to a request whose path ends in a slash, which API Gateway may route like one without: relative to `/posts/`,
    /// `posts/7` would be `/posts/posts/7`.
    pub(super) fn raise_location(&mut self) {
        let raised = self.location().map(|location| format!("../{location}"));
        if let Some(raised) = raised.and_then(|raised| HeaderValue::try_from(raised).ok()) {
            self.headers.insert(header::LOCATION, raised);
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Says that another caller gets another representation under the same URL.
    #[must_use]
    pub fn depends_on_caller(self) -> Self {
        self.header(header::VARY, HeaderValue::from_static("authorization"))
    }

    /// Adds the `ETag` of a version, if the body shows the aggregate and nothing else: it changes only with the version.
    #[must_use]
    pub fn etag(self, version: u64) -> Self {
        self.header(header::ETAG, precondition::entity_tag(version))
    }

    /// Adds the `ETag` of a version and of this body, which shows more than the aggregate, or less of it to some.
    #[must_use]
    pub fn etag_of_view(self, version: u64) -> Self {
        let body = self.body.as_ref().map_or(&[][..], |content| content.bytes.as_ref());
        let tag = precondition::entity_tag_of_view(version, body);
        self.header(header::ETAG, tag)
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
    if problem.kind == Kind::Unauthenticated {
        reply.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(problem.challenge));
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
    }

    fn preconditions(name: &'static str, value: &str) -> Preconditions {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        Preconditions::read(&headers).unwrap()
    }

    #[test]
    fn a_reader_who_has_the_representation_gets_304_with_its_tag_and_no_body() {
        let reply = || {
            let reply = Reply::content("text/plain", [0x89]).etag_of_view(3);
            reply.header(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))
        };
        let tag = reply().headers[header::ETAG].to_str().unwrap().to_owned();
        assert!(tag.starts_with("\"3."), "{tag}");
        let answer = reply().for_reader(&preconditions("if-none-match", &tag)).unwrap().into_response();
        let answer = serde_json::to_value(answer).unwrap();
        assert_eq!((&answer["statusCode"], &answer["headers"]["etag"]), (&json!(304), &json!(tag)));
        for absent in
            [&answer["headers"]["content-type"], &answer["headers"]["content-encoding"], &answer["body"]]
        {
            assert_eq!(absent, &json!(null), "{answer}");
        }
        let other = reply().for_reader(&preconditions("if-none-match", "\"3\"")).unwrap();
        assert_eq!(other.status, StatusCode::OK);
        let problem = reply().for_reader(&preconditions("if-match", "\"2\"")).unwrap_err();
        assert_eq!(problem.kind, Kind::StaleVersion);
    }

    #[test]
    fn a_401_has_a_challenge_and_no_other_problem_does() {
        for (problem, challenge) in [
            (Problem::new(Kind::Unauthenticated, "no"), json!(problem::BEARER)),
            (Problem::unauthenticated(problem::SIGNATURE, "no"), json!(problem::SIGNATURE)),
            (Problem::new(Kind::Forbidden, "no"), json!(null)),
        ] {
            let answer = serde_json::to_value(problem_response(&problem, "urn:uuid:1")).unwrap();
            assert_eq!(answer["headers"]["www-authenticate"], challenge, "{answer}");
        }
    }
}
