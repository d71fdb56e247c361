//! Serves HTTP endpoints behind API Gateway.
//!
//! A handler reads as *parse, decide, store, answer*:
//!
//! ```
//! use kernel::{id, problem::Problem, text::Line};
//! use runtime::http::{Endpoints, Reply, Request};
//! use serde_json::json;
//! # struct Rooms;
//! # impl Rooms {
//! #     async fn create(&self, _: &serde_json::Value) -> Result<(), Problem> {
//! #         Ok(())
//! #     }
//! # }
//!
//! async fn create(rooms: &Rooms, request: &Request) -> Result<Reply, Problem> {
//!     let caller = request.caller()?;
//!     let mut fields = request.json()?;
//!     let name = fields.required::<Line<80>>("name");
//!     let name = fields.finish(name)?;
//!
//!     let id = id::new();
//!     let room = json!({"id": id, "name": name, "host": caller.id});
//!     rooms.create(&room).await?;
//!     Ok(Reply::created(&room, &format!("/rooms/{id}"))?.etag(1))
//! }
//!
//! let endpoints = Endpoints::new(Rooms).on("POST", "/rooms", create);
//! // main() ends with `endpoints.serve().await`.
//! # drop(endpoints);
//! ```
//!
//! Every error, a panic included, becomes a problem document here, so that API Gateway never has to word one.

#[cfg(debug_assertions)]
use std::collections::HashMap;
use std::{
    panic::AssertUnwindSafe,
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::{
    apigw::{ApiGatewayRequestAuthorizer, ApiGatewayV2httpResponse},
    encodings::Body,
};
use futures::{FutureExt, future::LocalBoxFuture};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use kernel::{
    idempotency::{self, IdempotencyKey},
    input::Fields,
    precondition,
    problem::{self, Kind, Problem},
};
use lambda_http::{RequestExt, request::LambdaRequest, request::RequestContext};
use lambda_runtime::{Context, Error, LambdaEvent, service_fn};
use matchit::Router;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    metrics::{CLIENT_ERRORS, LATENCY, SERVER_ERRORS, SUCCESSES},
    telemetry::{self, Unit, XRAY_HEADER, from_xray_header},
};

/// Returns the trace context of the request to the client, in the form of a `traceparent`: W3C's
/// [`traceresponse`](https://w3c.github.io/trace-context/#traceresponse-header), a draft (Trace Context Level 3) that
/// OpenTelemetry's instrumentations can send. It is there even if the trace is not sampled; the last digit says whether it is.
///
/// It is not `X-Amzn-Trace-Id`, which API Gateway's REST APIs answer with. An HTTP API
/// [reserves](https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-parameter-mapping.html#http-api-mapping-reserved-headers)
/// every name that begins with `x-amzn-`, and does not document what happens to such a header in a function's answer.
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The maximum size of a body, in bytes: 64 KiB of text are at most 384 KiB of JSON, if every byte is escaped.
const MAX_BODY: usize = 512 * 1024;

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
    deadline: Instant,
}

impl Request {
    /// The caller; 401 without an access token, and with an ID token.
    pub fn caller(&self) -> Result<&Caller, Problem> {
        self.caller.as_ref().ok_or_else(|| {
            let detail = "send an access token, not an ID token: Authorization: Bearer <token>";
            Problem::new(Kind::Unauthenticated, detail)
        })
    }

    /// The caller, who must be a member of a group of the user pool; 403 for others.
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
    pub fn signed(&self) -> Result<(), Problem> {
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

    /// The parameter `name` of the path, which the endpoint's path must have.
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
            return Err(Problem::too_large(MAX_BODY / 1024));
        }
        Ok(body)
    }

    /// The idempotency key, if the client sent one.
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

    /// Checks `If-Match` if the client sent it, for operations that do not require it.
    pub fn match_if_sent(&self, version: u64) -> Result<(), Problem> {
        if self.headers().contains_key(header::IF_MATCH) { self.require_match(version) } else { Ok(()) }
    }

    /// Whether the request may create something, but not replace it: `If-None-Match: *`.
    pub fn creates_only(&self) -> Result<bool, Problem> {
        precondition::creates_only(self.headers())
    }

    /// How long the function still has.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Annotates the trace with every id in the path, and log lines with the last.
fn annotate(unit: &Unit, path: &str) {
    for (name, id) in ids(path) {
        unit.subject(id);
        unit.annotate(name, id.to_owned());
    }
}

/// The ids in a path with their names: `/posts/0190…` has a `post_id`. Only ids, because a path can contain anything.
fn ids(path: &str) -> impl Iterator<Item = (String, &str)> {
    let segments = || path.split('/');
    segments().zip(segments().skip(1)).filter_map(|(things, id)| {
        id.parse::<Uuid>().ok()?;
        let letters = !things.is_empty() && things.chars().all(|letter| letter.is_ascii_lowercase());
        letters.then(|| (format!("{}_id", things.trim_end_matches('s')), id))
    })
}

/// The time-out of an invocation that has no deadline: what the templates give an endpoint.
const UNKNOWN_TIME: Duration = Duration::from_secs(10);

/// The deadline of an invocation, read at its start. `cargo lambda watch`, unlike Lambda, can name a time that has passed.
pub(crate) fn deadline(context: &Context) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(context.deadline).saturating_sub(now);
    Instant::now() + if left.is_zero() { UNKNOWN_TIME } else { left }
}

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

    /// Adds a `Location`.
    fn location(&self) -> Option<&str> {
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
}

/// The parameters of a path, by name.
type Parameters = Vec<(String, String)>;

type Handler<S> = Box<dyn Fn(Rc<S>, Rc<Request>) -> LocalBoxFuture<'static, Result<Reply, Problem>>>;

struct Endpoint<S> {
    method: &'static str,
    path: &'static str,
    handler: Handler<S>,
}

/// The endpoints of one function, and the state that their handlers share.
pub struct Endpoints<S> {
    state: Rc<S>,
    paths: Router<Vec<Endpoint<S>>>,
}

impl<S: 'static> Endpoints<S> {
    /// Without an endpoint yet.
    pub fn new(state: S) -> Self {
        Self { state: Rc::new(state), paths: Router::new() }
    }

    /// Adds an endpoint, with the method and path of the template's route.
    ///
    /// # Panics
    /// If two paths of one function conflict, so that the first start shows it.
    #[must_use]
    pub fn on<H>(mut self, method: &'static str, path: &'static str, handler: H) -> Self
    where
        H: AsyncFn(&S, &Request) -> Result<Reply, Problem> + 'static,
    {
        let handler = Rc::new(handler);
        let handler: Handler<S> = Box::new(move |state, request| {
            let handler = Rc::clone(&handler);
            async move { handler(&state, &request).await }.boxed_local()
        });
        let endpoint = Endpoint { method, path, handler };
        if let Ok(found) = self.paths.at_mut(path) {
            found.value.push(endpoint);
        } else if let Err(conflict) = self.paths.insert(path, vec![endpoint]) {
            panic!("the endpoint {path} cannot be added: {conflict}");
        }
        self
    }

    /// Answers requests from API Gateway until Lambda ends the process.
    pub async fn serve(self) -> Result<(), Error> {
        lambda_runtime::run(service_fn(async |event: LambdaEvent<LambdaRequest>| {
            Ok::<_, Error>(self.answer(event).await)
        }))
        .await
    }

    /// Like [`Self::serve`], but also answers direct invokes: an input that is not an HTTP request is passed to `call`, whose
    /// output is the answer.
    pub async fn serve_with_calls<C>(self, call: C) -> Result<(), Error>
    where
        C: AsyncFn(&S, Value) -> Result<Value, Problem>,
    {
        lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
            let LambdaEvent { payload, context } = event;
            if payload.get("requestContext").is_some() {
                let payload = serde_json::from_value(payload)?;
                let answer = self.answer(LambdaEvent { payload, context }).await;
                return Ok::<_, Error>(serde_json::to_value(answer)?);
            }
            let function = context.env_config.function_name.clone();
            let name = format!("RPC {function}");
            telemetry::invocation(&context, telemetry::Kind::Server, &name, None, async |unit| {
                let start = Instant::now();
                // Boxed, so that the function's future does not contain the handler's.
                let result = call(&self.state, payload).boxed_local().await;
                tell_outcome(unit, "RPC", &function, result.as_ref().map(|_| StatusCode::OK), start);
                result.map_err(Error::from)
            })
            .await
        }))
        .await
    }

    async fn answer(&self, event: LambdaEvent<LambdaRequest>) -> ApiGatewayV2httpResponse {
        let LambdaEvent { payload, context } = event;
        let request: lambda_http::Request = payload.into();
        let method = request.method().as_str().to_owned();
        let path = request.raw_http_path().to_owned();
        let found = self.find(&method, &path);
        let route = found.as_ref().map_or("-", |(endpoint, _)| endpoint.path);
        let name = format!("{method} {route}");
        let cause = request.headers().get(XRAY_HEADER).and_then(|header| header.to_str().ok());
        let origin = cause.and_then(from_xray_header);
        telemetry::invocation(&context, telemetry::Kind::Server, &name, origin, async |unit| {
            let start = Instant::now();
            let instance = format!("urn:uuid:{}", context.request_id);
            let result = match found {
                Ok((endpoint, parameters)) => {
                    let request = Request {
                        caller: caller(&request),
                        signed: is_signed(&request),
                        deadline: deadline(&context),
                        inner: request,
                        parameters,
                    };
                    annotate(unit, &path);
                    // Last: the trace of a request about another user is annotated with the caller's id.
                    if let Some(caller) = &request.caller {
                        unit.annotate("user_id", caller.id.to_string());
                    }
                    let answer = (endpoint.handler)(Rc::clone(&self.state), Rc::new(request));
                    let result = AssertUnwindSafe(answer).catch_unwind().await;
                    result.unwrap_or_else(|_| Err(Problem::internal("the handler panicked")))
                }
                Err(problem) => Err(problem),
            };
            if let Some(made) = result.as_ref().ok().and_then(Reply::location) {
                annotate(unit, made);
            }
            tell_outcome(unit, &method, route, result.as_ref().map(|reply| reply.status), start);
            let mut answer = match result {
                Ok(reply) => response(reply.status, reply.headers, reply.body),
                Err(problem) => {
                    let mut headers = HeaderMap::new();
                    if let Some(seconds) = problem.retry_after {
                        headers.insert(header::RETRY_AFTER, seconds.into());
                    }
                    let body = problem.to_json(&instance);
                    response(problem.kind.status(), headers, Some(Content::json(problem::MEDIA_TYPE, &body)))
                }
            };
            let place = telemetry::traceparent().and_then(|place| HeaderValue::try_from(place).ok());
            if let Some(place) = place {
                answer.headers.insert(TRACE_RESPONSE, place);
            }
            answer
        })
        .await
    }

    /// The endpoint for a method and a path, and the path's parameters.
    fn find(&self, method: &str, path: &str) -> Result<(&Endpoint<S>, Parameters), Problem> {
        let found = self.paths.at(path).map_err(|_| Problem::not_found("path"))?;
        let endpoint = found.value.iter().find(|endpoint| endpoint.method == method);
        let endpoint = endpoint.ok_or_else(|| Problem::not_found("method on this path"))?;
        let parameters =
            found.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok((endpoint, parameters))
    }
}

/// Writes one line per request, at a level that depends on the outcome, and records the outcome in the trace and the metrics.
fn tell_outcome(
    unit: &Unit,
    method: &str,
    route: &str,
    result: Result<StatusCode, &Problem>,
    start: Instant,
) {
    let time = start.elapsed();
    let milliseconds = time.as_secs_f64() * 1e3;
    let status = result.unwrap_or_else(|problem| problem.kind.status());
    let endpoint = format!("{method} {route}");
    LATENCY.took_of(endpoint.clone(), time);
    match status {
        status if status.is_server_error() => SERVER_ERRORS.one_of(endpoint),
        status if status.is_client_error() => CLIENT_ERRORS.one_of(endpoint),
        _ => SUCCESSES.one_of(endpoint),
    }
    unit.annotate("http.response.status_code", i64::from(status.as_u16()));
    match result {
        Ok(status) => tracing::info!(method, route, status = status.as_u16(), milliseconds, "answered"),
        Err(problem) => {
            let (status, name) = (problem.kind.status(), problem.kind.name());
            let cause = problem.cause.as_ref().map(|cause| error_chain(cause.as_ref())).unwrap_or_default();
            unit.fail(name);
            if status.is_server_error() {
                tracing::error!(
                    method,
                    route,
                    status = status.as_u16(),
                    milliseconds,
                    problem = name,
                    cause,
                    "failed"
                );
            } else {
                tracing::info!(
                    method,
                    route,
                    status = status.as_u16(),
                    milliseconds,
                    problem = name,
                    cause,
                    "refused"
                );
            }
        }
    }
}

/// An error and its causes in one line, for the log.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// The statements of the API's authorizer about a request.
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
        return crate::local_authorizer::is_signed(request.headers());
    }
    authorizer(request).is_some_and(|authorizer| authorizer.iam.is_some())
}

/// The caller, as verified by the authorizer.
fn caller(request: &lambda_http::Request) -> Option<Caller> {
    let claims = authorizer(request).and_then(|authorizer| authorizer.jwt.as_ref()).map(|jwt| &jwt.claims);
    #[cfg(debug_assertions)]
    if claims.is_none() {
        let claims = crate::local_authorizer::verify(request.headers())?;
        let claims: HashMap<String, String> =
            claims.into_iter().map(|(name, value)| (name, as_gateway_writes(&value))).collect();
        return Caller::from_claims(|name| claims.get(name).map(String::as_str));
    }
    claims.and_then(|claims| Caller::from_claims(|name| claims.get(name).map(String::as_str)))
}

/// A claim as API Gateway passes it: text, with the items of an array between brackets.
#[cfg(debug_assertions)]
fn as_gateway_writes(claim: &Value) -> String {
    match claim {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(as_gateway_writes).collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

fn response(status: StatusCode, mut headers: HeaderMap, body: Option<Content>) -> ApiGatewayV2httpResponse {
    if let Some(body) = &body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(body.media_type));
    }
    // Answers can contain personal data: nobody may cache them, unless the handler says otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = i64::from(status.as_u16());
    response.headers = headers;
    response.is_base64_encoded = matches!(&body, Some(Content { bytes: Body::Binary(_), .. }));
    response.body = body.map(|body| body.bytes);
    response
}

#[cfg(test)]
mod tests {
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
            deadline: Instant::now(),
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
    fn a_token_read_here_has_the_claims_that_api_gateway_would_hand_over() {
        for (claim, expected) in [
            (json!("access"), "access"),
            (json!(["admin", "editors"]), "[admin editors]"),
            (json!([]), "[]"),
            (json!(1_700_000_000), "1700000000"),
            (json!(true), "true"),
        ] {
            assert_eq!(as_gateway_writes(&claim), expected);
        }
    }

    #[test]
    fn a_group_lets_its_members_in_refuses_others_and_asks_strangers_to_sign_in() {
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
    fn the_ids_in_a_path_are_named_after_the_things() {
        let path = format!("/posts/{ARA}/comments/{ARA}");
        let found: Vec<_> = ids(&path).collect();
        assert_eq!(found, [("post_id".to_owned(), ARA), ("comment_id".to_owned(), ARA)]);
        let path = format!("/orders/{ARA}/payment");
        assert_eq!(ids(&path).collect::<Vec<_>>(), [("order_id".to_owned(), ARA)]);
        for path in ["/posts/ara@example.com", "/inventory/TEA-01", "/users/me", "/"] {
            assert_eq!(ids(path).count(), 0, "{path}");
        }
        for path in [format!("/{ARA}/{ARA}"), format!("//{ARA}"), format!("/P%20/{ARA}")] {
            assert_eq!(ids(&path).count(), 0, "{path}");
        }
    }

    #[test]
    fn a_part_of_the_path_is_text_and_an_id_only_where_it_is_one() {
        let request = request_by(None);
        assert_eq!(request.parameter("sku"), "TEA-01");
        assert_eq!(request.id("sku").unwrap_err().kind, Kind::NotFound);
    }

    #[test]
    fn what_is_no_text_is_handed_over_in_base64_and_kept_as_long_as_the_handler_says() {
        let reply = Reply::content("image/png", [0x89, 0x50])
            .header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let answer = serde_json::to_value(response(reply.status, reply.headers, reply.body)).unwrap();
        assert_eq!((&answer["body"], &answer["isBase64Encoded"]), (&json!("iVA="), &json!(true)));
        assert_eq!(answer["headers"]["content-type"], "image/png");
        assert_eq!(answer["headers"]["cache-control"], "no-cache");

        let reply = Reply::ok(&json!({"a": 1})).unwrap();
        let answer = serde_json::to_value(response(reply.status, reply.headers, reply.body)).unwrap();
        assert_eq!((&answer["body"], &answer["isBase64Encoded"]), (&json!(r#"{"a":1}"#), &json!(false)));
        assert_eq!(answer["headers"]["cache-control"], "no-store");

        let reply = Reply::not_modified();
        let answer = serde_json::to_value(response(reply.status, reply.headers, reply.body)).unwrap();
        assert_eq!((&answer["statusCode"], &answer["headers"]["content-type"]), (&json!(304), &json!(null)));
    }
}
