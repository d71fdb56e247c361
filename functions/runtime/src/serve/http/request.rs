//! What a handler can ask of a request.

#[cfg(debug_assertions)]
use std::collections::HashMap;

use aws_lambda_events::apigw::ApiGatewayRequestAuthorizer;
use http::{HeaderMap, header};
use kernel::{
    idempotency::{self, IdempotencyKey},
    input::Fields,
    page::PageRequest,
    precondition,
    problem::{Kind, MAX_BODY_KIB, Problem},
};
use lambda_http::{RequestExt, request::RequestContext};
#[cfg(debug_assertions)]
use serde_json::Value;
use uuid::Uuid;

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
    inner: lambda_http::Request,
    parameters: Parameters,
    caller: Option<Caller>,
    signed: bool,
    deadline: Deadline,
}

/// The parameters of a path, by name.
pub(super) type Parameters = Vec<(String, String)>;

impl Request {
    /// A request with the parameters of its path.
    pub(super) fn new(inner: lambda_http::Request, parameters: Parameters, deadline: Deadline) -> Self {
        Self { caller: read_caller(&inner), signed: is_signed(&inner), inner, parameters, deadline }
    }

    /// The caller, if there is one.
    pub(super) fn optional_caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The caller; 401 without an access token. An ID token is not one.
    pub fn caller(&self) -> Result<&Caller, Problem> {
        self.caller.as_ref().ok_or_else(|| {
            let detail = "send an access token (an ID token is not accepted): Authorization: Bearer <token>";
            Problem::new(Kind::Unauthenticated, detail)
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
            Err(Problem::new(
                Kind::Unauthenticated,
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
        let found = self.parameters.iter().find(|(parameter, _)| parameter == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// The query parameter `name`, decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.inner.query_string_parameters_ref().and_then(|parameters| parameters.first(name))
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
        self.inner.headers()
    }

    /// The fields of the JSON body: 415 if its media type is not JSON or it has a content encoding, 413 if it is too large, 400
    /// if it cannot be read.
    pub fn json(&self) -> Result<Fields, Problem> {
        let media_type = self.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::unsupported_media_type());
        }
        if self.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(Problem::new(Kind::UnsupportedMediaType, "send the body without Content-Encoding"));
        }
        let body = self.bytes()?;
        // A gateway passes text: a byte that is not UTF-8 may arrive as U+FFFD, which has three bytes.
        let sent =
            self.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if sent.is_some_and(|sent: usize| sent != body.len()) {
            return Err(Problem::new(
                Kind::Unreadable,
                "the body is not UTF-8, or Content-Length is not its length",
            ));
        }
        Fields::read(body)
    }

    /// The body as it was sent; 413 if it is too large.
    pub fn bytes(&self) -> Result<&[u8], Problem> {
        let body: &[u8] = self.inner.body().as_ref();
        if body.len() > MAX_BODY {
            return Err(Problem::too_large(MAX_BODY_KIB));
        }
        Ok(body)
    }

    /// The idempotency key, if the client sent one; 400 if it is malformed.
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, Problem> {
        self.headers()
            .get(idempotency::HEADER)
            .map(|value| IdempotencyKey::parse(value.as_bytes()))
            .transpose()
    }

    /// Checks `If-Match` against the current version: 428 if it is missing, 412 if it names other versions only.
    pub fn require_match(&self, version: u64) -> Result<(), Problem> {
        precondition::require_match(self.headers(), version)
    }

    /// Checks `If-Match` if the client sent it, for operations that do not require it: 412 if it names other versions only.
    pub fn check_match(&self, version: u64) -> Result<(), Problem> {
        if self.headers().contains_key(header::IF_MATCH) { self.require_match(version) } else { Ok(()) }
    }

    /// Whether the request may create something, but not replace it: `If-None-Match: *`. 400 for any other value, 412 with
    /// `If-Match`.
    pub fn creates_only(&self) -> Result<bool, Problem> {
        precondition::creates_only(self.headers())
    }

    /// The time by which the invocation must be done.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}
/// What the API's authorizer has verified about the request.
fn authorizer(request: &lambda_http::Request) -> Option<&ApiGatewayRequestAuthorizer> {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.authorizer.as_ref(),
        _ => None,
    }
}

/// Whether the authorizer verified the signature of an AWS principal.
fn is_signed(request: &lambda_http::Request) -> bool {
    #[cfg(debug_assertions)]
    if authorizer(request).is_none() {
        return local_authorizer::is_signed(request.headers());
    }
    authorizer(request).is_some_and(|authorizer| authorizer.iam.is_some())
}

/// The caller, as verified by the authorizer.
fn read_caller(request: &lambda_http::Request) -> Option<Caller> {
    let claims = authorizer(request).and_then(|authorizer| authorizer.jwt.as_ref()).map(|jwt| &jwt.claims);
    #[cfg(debug_assertions)]
    if claims.is_none() {
        let claims = local_authorizer::verify(request.headers())?;
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
        Request {
            inner: lambda_http::Request::default(),
            parameters: vec![("sku".to_owned(), "TEA-01".to_owned())],
            caller,
            signed: false,
            deadline: Deadline::after(Duration::ZERO),
        }
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
}
