//! Serves HTTP endpoints behind API Gateway.
//!
//! A handler reads as *parse, decide, store, answer*:
//!
//! ```ignore
//! pub async fn create(posts: &Posts, request: &Request) -> Result<Reply, Problem> {
//!     let author = request.caller()?;
//!     let draft = Draft::parse(request.json()?)?;
//!     …
//!     Ok(Reply::created(&post).etag(post.version).location(format!("/posts/{}", post.id)))
//! }
//! ```
//!
//! Every error becomes a problem document here, in one place, a panic included: a function never hands
//! an error to API Gateway to word.

use std::{
    panic::AssertUnwindSafe,
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::apigw::{ApiGatewayRequestAuthorizer, ApiGatewayV2httpResponse};
use futures::{FutureExt, future::LocalBoxFuture};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kernel::{
    idempotency::{self, IdempotencyKey},
    input::Fields,
    precondition,
    problem::{self, Kind, Problem},
    trace,
};
use lambda_http::{RequestExt, request::LambdaRequest, request::RequestContext};
use lambda_runtime::{Context, Error, LambdaEvent, service_fn};
use matchit::Router;
use serde::Serialize;
use serde_json::Value;
use tracing::Instrument;
use uuid::Uuid;

use crate::logging;

/// The largest body that any endpoint reads, in bytes: 64 KiB of text is at most 384 KiB of JSON when each
/// byte is written as an escape.
const MAX_BODY: usize = 512 * 1024;

/// Who makes a request, as the API's authorizer has verified it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user's id: the token's `sub`.
    pub id: Uuid,
    /// The user's name in the user pool: the token's `username`.
    pub username: String,
}

impl Caller {
    /// Reads the claims of a verified token.
    fn from_claims<'a>(claim: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        // An ID token is signed by the same pool but is not meant for an API.
        if claim("token_use").is_some_and(|token_use| token_use != "access") {
            return None;
        }
        Some(Self { id: claim("sub")?.parse().ok()?, username: claim("username")?.to_owned() })
    }
}

/// One request.
#[derive(Debug)]
pub struct Request {
    inner: lambda_http::Request,
    parameters: Parameters,
    caller: Option<Caller>,
    signed: bool,
    deadline: Instant,
    context: Context,
}

impl Request {
    /// Who makes the request; 401 where nobody is signed in.
    pub fn caller(&self) -> Result<&Caller, Problem> {
        self.caller.as_ref().ok_or_else(|| {
            Problem::new(Kind::Unauthenticated, "send an access token: Authorization: Bearer <token>")
        })
    }

    /// 401 unless another service signed the request (SigV4) and API Gateway has verified that: a route's
    /// authorizer stands in a template, and what it guards should not depend on that line alone.
    pub fn signed(&self) -> Result<(), Problem> {
        if self.signed {
            Ok(())
        } else {
            Err(Problem::new(Kind::Unauthenticated, "sign the request (SigV4)"))
        }
    }

    /// The identifier in the path under `name`; 404 where it is not a UUID, since nothing has such an id.
    pub fn id(&self, name: &str) -> Result<Uuid, Problem> {
        self.parameters
            .iter()
            .find(|(parameter, _)| parameter == name)
            .and_then(|(_, value)| value.parse().ok())
            .ok_or_else(|| Problem::new(Kind::NotFound, format!("the {name} in the path is not a UUID")))
    }

    /// The query parameter `name`, decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.inner.query_string_parameters_ref().and_then(|parameters| parameters.first(name))
    }

    /// The identifier in the query parameter `name`, where there is one; 422 where it is not a UUID.
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

    /// The fields of the JSON body: 415 where it is not JSON by its media type, 413 where it is too large,
    /// 400 where it cannot be read.
    pub fn json(&self) -> Result<Fields, Problem> {
        let media_type = self.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "send the body as JSON, with Content-Type: application/json",
            ));
        }
        let body: &[u8] = self.inner.body().as_ref();
        if body.len() > MAX_BODY {
            let limit = MAX_BODY / 1024;
            return Err(Problem::new(Kind::TooLarge, format!("the body may have at most {limit} KiB")));
        }
        // A gateway hands over text: bytes that are not UTF-8 may arrive as U+FFFD, which has three.
        let sent =
            self.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if sent.is_some_and(|sent: usize| sent != body.len()) {
            return Err(Problem::new(Kind::Unreadable, "the body is not UTF-8, or has not arrived whole"));
        }
        Fields::read(body)
    }

    /// The idempotency key, where the client sent one.
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, Problem> {
        self.headers()
            .get(idempotency::HEADER)
            .map(|value| IdempotencyKey::parse(value.as_bytes()))
            .transpose()
    }

    /// Checks `If-Match` against the current version: 428 where it is missing, 412 where it is another.
    pub fn require_match(&self, version: u64) -> Result<(), Problem> {
        precondition::require_match(self.headers(), version)
    }

    /// Checks `If-Match` where the client sent it, for what can be done without.
    pub fn match_if_sent(&self, version: u64) -> Result<(), Problem> {
        if self.headers().contains_key(header::IF_MATCH) { self.require_match(version) } else { Ok(()) }
    }

    /// Whether the client wants to create, and not to replace what is there: `If-None-Match: *`.
    pub fn creates_only(&self) -> bool {
        self.headers().get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == b"*")
    }

    /// The trace this request belongs to, for the events it leads to.
    pub fn traceparent(&self) -> Option<String> {
        self.context.xray_trace_id.as_deref().and_then(trace::traceparent)
    }

    /// How long the function still has.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// How long an invocation has where nobody says: the time-out that the templates give an endpoint.
const UNKNOWN_TIME: Duration = Duration::from_secs(10);

/// When an invocation's time is over, asked at its start. `cargo lambda watch` names a moment that has
/// passed, which Lambda never does.
pub(crate) fn deadline(context: &Context) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(context.deadline).saturating_sub(now);
    Instant::now() + if left.is_zero() { UNKNOWN_TIME } else { left }
}

/// The answer to a request that went well.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Option<Value>,
}

impl Reply {
    fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_value(body).map_err(Problem::internal)?;
        Ok(Self { status, headers: HeaderMap::new(), body: Some(body) })
    }

    fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: None }
    }

    /// 200 with a body.
    pub fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, body)
    }

    /// 201 with a body and where to find it.
    pub fn created(body: &impl Serialize, location: &str) -> Result<Self, Problem> {
        let mut reply = Self::json(StatusCode::CREATED, body)?;
        reply.headers.insert(header::LOCATION, HeaderValue::from_str(location).map_err(Problem::internal)?);
        Ok(reply)
    }

    /// 202 without a body.
    pub fn accepted() -> Self {
        Self::empty(StatusCode::ACCEPTED)
    }

    /// 204.
    pub fn no_content() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
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

/// The endpoints of one function, over the state that their handlers share.
pub struct Endpoints<S> {
    state: Rc<S>,
    paths: Router<Vec<Endpoint<S>>>,
}

impl<S: 'static> Endpoints<S> {
    /// No endpoint yet.
    pub fn new(state: S) -> Self {
        logging::start();
        Self { state: Rc::new(state), paths: Router::new() }
    }

    /// Adds an endpoint, by the method and path that the template's route has.
    ///
    /// # Panics
    /// Where two paths of one function contradict each other, which the first start shows.
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

    /// Like [`Self::serve`], and answers direct invokes: an input that is not an HTTP request goes to
    /// `call`, whose output is the invoke's answer.
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
            let span = logging::invocation(&context);
            async {
                let start = Instant::now();
                // Boxed, so that the function's future does not nest the handler's.
                let result = call(&self.state, payload).boxed_local().await;
                log_outcome("CALL", "-", result.as_ref().map(|_| StatusCode::OK), start);
                result.map_err(Error::from)
            }
            .instrument(span)
            .await
        }))
        .await
    }

    async fn answer(&self, event: LambdaEvent<LambdaRequest>) -> ApiGatewayV2httpResponse {
        let span = logging::invocation(&event.context);
        async {
            let start = Instant::now();
            let instance = format!("urn:uuid:{}", event.context.request_id);
            let request: lambda_http::Request = event.payload.into();
            let method = request.method().as_str().to_owned();
            let path = request.raw_http_path().to_owned();
            let (route, result) = match self.find(&method, &path) {
                Ok((endpoint, parameters)) => {
                    let request = Request {
                        caller: caller(&request),
                        signed: authorizer(&request).is_some_and(|authorizer| authorizer.iam.is_some()),
                        deadline: deadline(&event.context),
                        inner: request,
                        parameters,
                        context: event.context,
                    };
                    let answer = (endpoint.handler)(Rc::clone(&self.state), Rc::new(request));
                    let result = AssertUnwindSafe(answer).catch_unwind().await;
                    (endpoint.path, result.unwrap_or_else(|_| Err(Problem::internal("the handler panicked"))))
                }
                Err(problem) => ("-", Err(problem)),
            };
            log_outcome(&method, route, result.as_ref().map(|reply| reply.status), start);
            match result {
                Ok(reply) => response(reply.status, reply.headers, "application/json", reply.body),
                Err(problem) => {
                    let mut headers = HeaderMap::new();
                    if let Some(seconds) = problem.retry_after {
                        headers.insert(header::RETRY_AFTER, seconds.into());
                    }
                    let body = problem.to_json(&instance);
                    response(problem.kind.status(), headers, problem::MEDIA_TYPE, Some(body))
                }
            }
        }
        .instrument(span)
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

/// One line a request, at the level that its outcome deserves.
fn log_outcome(method: &str, route: &str, result: Result<StatusCode, &Problem>, start: Instant) {
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    match result {
        Ok(status) => tracing::info!(method, route, status = status.as_u16(), milliseconds, "answered"),
        Err(problem) => {
            let (status, name) = (problem.kind.status(), problem.kind.name());
            let cause = problem.cause.as_ref().map(|cause| error_chain(cause.as_ref())).unwrap_or_default();
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

/// An error and what caused it, in one line for the log.
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

/// What the API's authorizer says of a request.
fn authorizer(request: &lambda_http::Request) -> Option<&ApiGatewayRequestAuthorizer> {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.authorizer.as_ref(),
        _ => None,
    }
}

/// Who makes the request: the authorizer's word for it.
fn caller(request: &lambda_http::Request) -> Option<Caller> {
    let claims = authorizer(request).and_then(|authorizer| authorizer.jwt.as_ref()).map(|jwt| &jwt.claims);
    #[cfg(debug_assertions)]
    if claims.is_none() {
        return crate::local_authorizer::verify(request.headers())
            .and_then(|claims| Caller::from_claims(|name| claims.get(name).and_then(Value::as_str)));
    }
    claims.and_then(|claims| Caller::from_claims(|name| claims.get(name).map(String::as_str)))
}

fn response(
    status: StatusCode,
    mut headers: HeaderMap,
    media_type: &'static str,
    body: Option<Value>,
) -> ApiGatewayV2httpResponse {
    if body.is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = i64::from(status.as_u16());
    response.headers = headers;
    response.body = body.map(|body| aws_lambda_events::encodings::Body::Text(body.to_string()));
    response
}
