//! What a handler can ask of a request.

use std::collections::HashMap;

use http::{HeaderMap, header};
use kernel::{
    idempotency::{self, IdempotencyKey},
    input,
    input::Fields,
    page::PageRequest,
    precondition::{Preconditions, State, entity_tag},
    problem::{self, FieldError, Kind, MAX_BODY_KIB, Problem},
};
use lambda_http::aws_lambda_events::apigw::{ApiGatewayRequestAuthorizer, ApiGatewayV2httpRequest};
#[cfg(debug_assertions)]
use serde_json::Value;
use uuid::Uuid;

use super::event;
#[cfg(debug_assertions)]
use super::local_authorizer;
use crate::deadline::Deadline;

/// The maximum size of a body, in bytes.
const MAX_BODY: usize = MAX_BODY_KIB * 1024;

/// The caller of a request, verified by the API's authorizer.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user's id: the token's `sub`.
    pub id: Uuid,
    /// The user's name in the user pool: the token's `username`.
    pub username: String,
    /// The user's groups in the user pool: the token's `cognito:groups`.
    pub groups: Vec<String>,
}

impl Caller {
    /// Reads the claims of a verified token.
    fn from_claims<'a>(claim: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        // An ID token is signed by the same pool, but is not meant for APIs.
        if claim("token_use").is_some_and(|token_use| token_use != "access") {
            return None;
        }
        Some(Self {
            id: claim("sub")?.parse().ok()?,
            username: claim("username")?.to_owned(),
            groups: claim("cognito:groups").map(groups).unwrap_or_default(),
        })
    }
}

/// The groups in a claim. API Gateway passes an array as `[admin editors]`; names of groups have no white space.
fn groups(claim: &str) -> Vec<String> {
    let inside = claim.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// One request.
#[derive(Debug)]
pub struct Request {
    headers: HeaderMap,
    /// The parameters of the path, by name.
    parameters: HashMap<String, String>,
    /// The parameters of the query, decoded.
    query: Vec<(String, String)>,
    body: Vec<u8>,
    preconditions: Preconditions,
    caller: Option<Caller>,
    signed: bool,
    deadline: Deadline,
}

impl Request {
    /// Reads a request to an endpoint whose query can have the parameters `known`: 400 if the body or a precondition is malformed,
    /// 422 if the query has another parameter, or one twice.
    pub(super) fn read(
        mut event: ApiGatewayV2httpRequest,
        known: &[&str],
        deadline: Deadline,
    ) -> Result<Self, Problem> {
        let query = event.raw_query_string.as_deref().unwrap_or_default();
        let query = read_query(query, known)?;
        let body = event::body(&mut event)?;
        let authorizer = event.request_context.authorizer.as_ref();
        Ok(Self {
            preconditions: Preconditions::read(&event.headers)?,
            caller: read_caller(authorizer, &event.headers),
            signed: is_signed(authorizer, &event.headers),
            headers: event.headers,
            parameters: event.path_parameters,
            query,
            body,
            deadline,
        })
    }

    /// The caller, if there is one.
    pub(super) fn optional_caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The caller; 401 without an access token. An ID token is not one.
    pub fn caller(&self) -> Result<&Caller, Problem> {
        self.caller.as_ref().ok_or_else(|| {
            let detail = "send an access token (an ID token is not accepted): Authorization: Bearer <token>";
            let sent = self.headers.contains_key(header::AUTHORIZATION);
            Problem::unauthenticated(if sent { problem::INVALID_TOKEN } else { problem::BEARER }, detail)
        })
    }

    /// The caller; 403 unless the token names this group of the user pool. A token may be an hour old, so what is rare and powerful
    /// asks the pool itself: `aws::identity_provider::UserPool::require_member`.
    pub fn require_group(&self, group: &str) -> Result<&Caller, Problem> {
        let caller = self.caller()?;
        if caller.groups.iter().any(|member_of| member_of == group) {
            return Ok(caller);
        }
        Err(Problem::new(
            Kind::Forbidden,
            format!(
                "only members of the group {group} may do this; if you have just joined it, sign in again"
            ),
        ))
    }

    /// 401 unless an AWS principal signed the request (SigV4) and API Gateway verified the signature. The route requires that
    /// too, but security should not depend on one line of a template.
    pub fn require_signature(&self) -> Result<(), Problem> {
        if self.signed {
            Ok(())
        } else {
            Err(Problem::unauthenticated(
                problem::SIGNATURE,
                "sign the request with AWS credentials (Signature Version 4)",
            ))
        }
    }

    /// The identifier in the path under `name`; 404 if it is not a UUID, because nothing has such an id.
    pub fn id(&self, name: &str) -> Result<Uuid, Problem> {
        self.parameter(name)
            .parse()
            .map_err(|_| Problem::new(Kind::NotFound, format!("the {name} in the path is not a UUID")))
    }

    /// The parameter `name` of the path; empty if the endpoint's path has no such parameter.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The query parameter `name`, decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(parameter, _)| parameter == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The identifier in the query parameter `name`, if there is one; 422 if it is not a UUID.
    pub fn query_id(&self, name: &str) -> Result<Option<Uuid>, Problem> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Problem::invalid_field(format!("/{name}"), "must be a UUID"))
        };
        self.query(name).map(parse).transpose()
    }

    /// The page of a list that the query parameters `limit` and `cursor` ask for; 422 if they are not valid. `list` names the
    /// list, so that a cursor of another one is refused.
    pub fn page(&self, list: impl Into<String>) -> Result<PageRequest, Problem> {
        PageRequest::read(list, self.query("limit"), self.query("cursor"))
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The fields of the JSON body: 415 if its media type is not JSON or it has a content encoding, 413 if it is too large, 400
    /// if it cannot be read.
    pub fn json(&self) -> Result<Fields, Problem> {
        let text = |name| self.headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::unsupported_media_type());
        }
        let identity =
            |codings: &str| codings.split(',').all(|one| one.trim().eq_ignore_ascii_case("identity"));
        if text(header::CONTENT_ENCODING).is_some_and(|codings| !identity(codings)) {
            return Err(Problem::new(Kind::UnsupportedMediaType, "send the body without Content-Encoding"));
        }
        let body = self.bytes()?;
        // API Gateway passes JSON as text, in which bytes that are not UTF-8 have become U+FFFD, three bytes each. The length shows
        // it. A chunked body has none: there U+FFFD is refused, because its sender can write \ufffd if that is meant.
        let length = text(header::CONTENT_LENGTH).map(str::parse);
        match length {
            Some(length) if length != Ok(body.len()) => Err(Problem::new(
                Kind::Unreadable,
                "the body is not UTF-8, or Content-Length is not its length",
            )),
            None if contains(body, REPLACEMENT.as_bytes()) => Err(Problem::new(
                Kind::Unreadable,
                "the body is not UTF-8; if you did send U+FFFD, write it as \\ufffd, or send Content-Length",
            )),
            _ => Fields::read(body),
        }
    }

    /// The body as it was sent; 413 if it is too large.
    pub fn bytes(&self) -> Result<&[u8], Problem> {
        if self.body.len() > MAX_BODY {
            return Err(Problem::too_large(MAX_BODY_KIB));
        }
        Ok(&self.body)
    }

    /// The idempotency key, if the client sent one; 400 if it is malformed.
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, Problem> {
        self.headers()
            .get(idempotency::HEADER)
            .map(|value| IdempotencyKey::parse(value.as_bytes()))
            .transpose()
    }

    /// The preconditions, for handlers that do more with them than [`Self::require_match`] and [`Self::check_match`].
    pub fn preconditions(&self) -> &Preconditions {
        &self.preconditions
    }

    /// Evaluates the preconditions of a change that must name the current version: 428 without `If-Match`, 412 if one is false.
    pub fn require_match(&self, version: u64) -> Result<(), Problem> {
        self.preconditions.require(version)
    }

    /// Evaluates the preconditions of a change that need not name the current version: 412 if one is false.
    pub fn check_match(&self, version: u64) -> Result<(), Problem> {
        self.preconditions.check(State::Tagged(entity_tag(version).as_bytes()))
    }

    /// The time by which the invocation must be done.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}

/// The character that stands for bytes that are not UTF-8.
const REPLACEMENT: &str = "\u{fffd}";

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Reads a query; 422 if it has a parameter that is not in `known`, or one twice.
fn read_query(query: &str, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let (mut read, mut errors) = (Vec::<(String, String)>::new(), Vec::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let detail = if !known.contains(&&*name) {
            "is not a parameter of this request"
        } else if read.iter().any(|(other, _)| *other == name) {
            "is sent more than once"
        } else {
            read.push((name.into_owned(), value.into_owned()));
            continue;
        };
        errors.push(FieldError { pointer: input::pointer(&name), detail: detail.to_owned() });
    }
    if errors.is_empty() { Ok(read) } else { Err(Problem::invalid(errors)) }
}

/// Whether the authorizer verified the signature of an AWS principal.
fn is_signed(authorizer: Option<&ApiGatewayRequestAuthorizer>, headers: &HeaderMap) -> bool {
    #[cfg(debug_assertions)]
    if authorizer.is_none() {
        return local_authorizer::is_signed(headers);
    }
    _ = headers;
    authorizer.is_some_and(|authorizer| authorizer.iam.is_some())
}

/// The caller, as verified by the authorizer.
fn read_caller(authorizer: Option<&ApiGatewayRequestAuthorizer>, headers: &HeaderMap) -> Option<Caller> {
    let claims = authorizer.and_then(|authorizer| authorizer.jwt.as_ref()).map(|jwt| &jwt.claims);
    _ = headers;
    #[cfg(debug_assertions)]
    if claims.is_none() {
        let claims = local_authorizer::verify(headers)?;
        let claims: HashMap<String, String> =
            claims.into_iter().map(|(name, value)| (name, as_gateway_claim(&value))).collect();
        return Caller::from_claims(|name| claims.get(name).map(String::as_str));
    }
    claims.and_then(|claims| Caller::from_claims(|name| claims.get(name).map(String::as_str)))
}

/// A claim as API Gateway passes it: text, with the items of an array between brackets.
#[cfg(debug_assertions)]
fn as_gateway_claim(claim: &Value) -> String {
    match claim {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(as_gateway_claim).collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};
    use serde_json::json;

    use super::*;

    const ARA: &str = "0190a6c4-0000-7000-8000-000000000001";

    fn caller_with(groups: Option<&str>) -> Caller {
        let claim = |name: &str| match name {
            "sub" => Some(ARA),
            "username" => Some("ara"),
            "token_use" => Some("access"),
            "cognito:groups" => groups,
            _ => None,
        };
        Caller::from_claims(claim).unwrap()
    }

    fn request_by(caller: Option<Caller>) -> Request {
        let mut event = ApiGatewayV2httpRequest::default();
        event.path_parameters = HashMap::from([("sku".to_owned(), "TEA-01".to_owned())]);
        Request { caller, ..Request::read(event, &[], Deadline::after(Duration::ZERO)).unwrap() }
    }

    #[test]
    fn groups_are_read_as_api_gateway_writes_them() {
        for (claim, expected) in [
            (Some("[admin]"), vec!["admin"]),
            (Some("[admin editors]"), vec!["admin", "editors"]),
            (Some("[]"), vec![]),
            (Some("admin"), vec![]),
            (Some("[not,admin admin]]"), vec!["not,admin", "admin]"]),
            (None, vec![]),
        ] {
            assert_eq!(caller_with(claim).groups, expected, "{claim:?}");
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    fn local_claims_have_api_gateways_form() {
        for (claim, expected) in [
            (json!("access"), "access"),
            (json!(["admin", "editors"]), "[admin editors]"),
            (json!([]), "[]"),
            (json!(1_700_000_000), "1700000000"),
            (json!(true), "true"),
        ] {
            assert_eq!(as_gateway_claim(&claim), expected);
        }
    }

    #[test]
    fn a_group_admits_members_and_refuses_others_with_403_or_401() {
        let admin = request_by(Some(caller_with(Some("[editors admin]"))));
        assert_eq!(admin.require_group("admin").unwrap().id.to_string(), ARA);
        let other = request_by(Some(caller_with(Some("[administrators]"))));
        let refused = other.require_group("admin").unwrap_err();
        assert_eq!(refused.kind, Kind::Forbidden);
        assert_eq!(
            refused.detail,
            "only members of the group admin may do this; if you have just joined it, sign in again"
        );
        assert_eq!(request_by(None).require_group("admin").unwrap_err().kind, Kind::Unauthenticated);
    }

    #[test]
    fn a_path_parameter_is_an_id_only_if_it_is_a_uuid() {
        let request = request_by(None);
        assert_eq!(request.parameter("sku"), "TEA-01");
        assert_eq!(request.id("sku").unwrap_err().kind, Kind::NotFound);
    }

    fn request_with(headers: &[(&'static str, &'static str)], body: &str) -> Request {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut event = ApiGatewayV2httpRequest::default();
        event.headers = headers.collect();
        event.body = Some(body.to_owned());
        Request::read(event, &[], Deadline::after(Duration::ZERO)).unwrap()
    }

    #[test]
    fn a_body_is_json_in_any_spelling_without_encoding() {
        const JSON: (&str, &str) = ("content-type", "application/json");
        for headers in [
            vec![JSON],
            vec![("content-type", "Application/JSON ; charset=utf-8")],
            vec![JSON, ("content-encoding", "Identity")],
            vec![JSON, ("content-encoding", "identity, IDENTITY")],
            vec![JSON, ("content-length", "2")],
        ] {
            assert!(request_with(&headers, "{}").json().is_ok(), "{headers:?}");
        }
        for headers in [
            vec![],
            vec![("content-type", "text/json")],
            vec![JSON, ("content-encoding", "gzip")],
            vec![JSON, ("content-encoding", "identity, gzip")],
            vec![JSON, ("content-encoding", "")],
        ] {
            let problem = request_with(&headers, "{}").json().unwrap_err();
            assert_eq!(problem.kind, Kind::UnsupportedMediaType, "{headers:?}");
        }
    }

    #[test]
    fn bytes_that_became_replacement_characters_are_unreadable() {
        const JSON: (&str, &str) = ("content-type", "application/json");
        let body = "{\"a\": \"caf\u{fffd}\"}";
        for headers in [vec![JSON], vec![JSON, ("content-length", "13")], vec![JSON, ("content-length", "x")]]
        {
            let problem = request_with(&headers, body).json().unwrap_err();
            assert_eq!(problem.kind, Kind::Unreadable, "{headers:?}");
        }
        assert!(request_with(&[JSON, ("content-length", "15")], body).json().is_ok());
        assert!(request_with(&[JSON], r#"{"a": "caf\ufffd"}"#).json().is_ok());
    }

    #[test]
    fn a_parameter_that_is_unknown_or_repeated_is_invalid() {
        let read = |query| read_query(query, &["limit", "cursor"]);
        assert_eq!(
            read("limit=5&cursor=a%2Bb+c").unwrap(),
            [("limit".to_owned(), "5".to_owned()), ("cursor".to_owned(), "a+b c".to_owned())]
        );
        assert_eq!(read("").unwrap(), []);
        for (query, pointer) in [
            ("lim=5", "/lim"),
            ("limit=5&limit=x", "/limit"),
            ("limit=5&limit=5", "/limit"),
            ("a/b=1", "/a~1b"),
            ("Limit=5", "/Limit"),
            ("=5", "/"),
            ("q=\"x\"", "/q"),
        ] {
            let problem = read(query).unwrap_err();
            assert_eq!(
                (problem.kind, problem.errors[0].pointer.as_str()),
                (Kind::Invalid, pointer),
                "{query}"
            );
        }
    }

    #[test]
    fn a_missing_and_a_refused_token_get_their_challenges() {
        let challenge = |headers| request_with(headers, "").caller().unwrap_err().challenge;
        assert_eq!(challenge(&[]), problem::BEARER);
        assert_eq!(challenge(&[("authorization", "Bearer x")]), problem::INVALID_TOKEN);
        assert_eq!(request_by(None).require_signature().unwrap_err().challenge, problem::SIGNATURE);
    }
}
