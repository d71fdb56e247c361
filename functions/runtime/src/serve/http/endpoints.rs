//! Which handler answers which request, and what every answer has in common.

use std::{
    panic::AssertUnwindSafe,
    rc::Rc,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::LocalBoxFuture};
use http::{HeaderName, HeaderValue, StatusCode};
use kernel::problem::Problem;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use lambda_runtime::{Context, Diagnostic, Error};
#[cfg(debug_assertions)]
use matchit::Router;
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    Reply, Request,
    event::{self, RouteKey},
    reply::problem_response,
};
use crate::{
    deadline::Deadline,
    error::{chain, read_json},
    serve::{self, Function},
    telemetry::{
        self, Kind, Origin, Unit,
        metrics::{CLIENT_ERRORS, LATENCY, SERVER_ERRORS, SUCCESSES},
    },
};

/// Returns the trace context of the request to the client, in the form of a `traceparent`: W3C's
/// [`traceresponse`](https://w3c.github.io/trace-context/#traceresponse-header), a draft (Trace Context Level 3) that
/// OpenTelemetry's instrumentations can send. It is there even if the trace is not sampled; the last digit says whether it is.
///
/// It is not `X-Amzn-Trace-Id`, which API Gateway's REST APIs answer with. An HTTP API
/// [reserves](https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-parameter-mapping.html#http-api-mapping-reserved-headers)
/// every name that begins with `x-amzn-`, and does not document what happens to such a header in a function's answer.
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The part of an invocation's time that is kept for its answer, so that API Gateway never has to word one.
pub(crate) const RESERVED_TIME: Duration = Duration::from_millis(300);

type Handler<S> = Box<dyn Fn(Rc<S>, Rc<Request>) -> LocalBoxFuture<'static, Result<Reply, Problem>>>;

type Call<S> = Box<dyn Fn(Rc<S>, Value) -> LocalBoxFuture<'static, Result<Value, Problem>>>;

struct Endpoint<S> {
    method: &'static str,
    path: &'static str,
    /// The parameters that its query can have.
    query: Vec<&'static str>,
    handler: Handler<S>,
}

impl<S> Endpoint<S> {
    /// Whether API Gateway's key of a route names it.
    fn has_key(&self, key: &str) -> bool {
        key.split_once(' ') == Some((self.method, self.path))
    }
}

/// The endpoints of one function, and the state that their handlers share.
pub struct Endpoints<S> {
    state: Rc<S>,
    all: Vec<Endpoint<S>>,
    call: Option<Call<S>>,
}

impl<S: 'static> Endpoints<S> {
    /// No endpoints yet: add them with [`Self::on`].
    pub fn new(state: S) -> Self {
        Self { state: Rc::new(state), all: Vec::new(), call: None }
    }

    /// Adds an endpoint, with the method and path of the template's route. The parameters that its query can have follow the path,
    /// in the form of a URI template (RFC 6570, section 3.2.8): `/posts{?author,limit,cursor}`. Without them it has none.
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
        let (path, query) = path.split_once("{?").unwrap_or((path, ""));
        let query = query.trim_end_matches('}').split(',').filter(|name| !name.is_empty()).collect();
        self.all.push(Endpoint { method, path, query, handler });
        self
    }

    /// Also answers direct invokes: an event that is not an HTTP request is passed to `call`, whose output is the answer.
    #[must_use]
    pub fn with_calls<C>(mut self, call: C) -> Self
    where
        C: AsyncFn(&S, Value) -> Result<Value, Problem> + 'static,
    {
        let call = Rc::new(call);
        self.call = Some(Box::new(move |state, input| {
            let call = Rc::clone(&call);
            async move { call(&state, input).await }.boxed_local()
        }));
        self
    }

    /// Answers a direct invoke.
    async fn answer_call(
        &self,
        call: &Call<S>,
        event: &RawValue,
        context: &Context,
    ) -> Result<Box<RawValue>, Diagnostic> {
        let deadline = Deadline::of(context).reserving(RESERVED_TIME);
        let function = context.env_config.function_name.clone();
        telemetry::invocation(context, Kind::Server, &format!("RPC {function}"), None, async |unit| {
            let start = Instant::now();
            let result = match read_json(event.get().as_bytes()) {
                Ok(input) => within(deadline, call(Rc::clone(&self.state), input)).await,
                Err(error) => Err(Problem::internal(error)),
            };
            record_outcome(unit, "RPC", &function, result.as_ref().map(|_| StatusCode::OK), start);
            serve::answer(&result.map_err(|problem| Diagnostic::from(Error::from(problem)))?)
        })
        .await
    }

    /// Answers a request from API Gateway.
    async fn answer(&self, event: &RawValue, context: &Context) -> ApiGatewayV2httpResponse {
        let deadline = Deadline::of(context).reserving(RESERVED_TIME);
        let mut request = event::read(event);
        let origin = Origin::of_request(event);
        let path = request.as_ref().ok().and_then(|request| request.raw_path.clone()).unwrap_or_default();
        let found = match &mut request {
            Ok(request) => self.find(request),
            Err(_) => self.with_key(RouteKey::of(event).as_str()),
        };
        let (method, route) = found.map_or(("-", "-"), |endpoint| (endpoint.method, endpoint.path));
        telemetry::invocation(context, Kind::Server, &format!("{method} {route}"), origin, async |unit| {
            let start = Instant::now();
            let result = async {
                let endpoint = found.ok_or_else(Problem::no_such_path)?;
                let request = Request::read(*request?, &endpoint.query, deadline)?;
                annotate(unit, &path);
                // Last, because it overwrites the `user_id` of a path such as `/users/{id}`.
                if let Some(caller) = request.optional_caller() {
                    unit.annotate("user_id", caller.id.to_string());
                }
                self.handle_request(endpoint, request).await
            };
            let mut result = result.boxed_local().await;
            if path.ends_with('/')
                && let Ok(reply) = &mut result
            {
                reply.raise_location();
            }
            if let Some(made) = result.as_ref().ok().and_then(Reply::location) {
                annotate(unit, made);
            }
            record_outcome(unit, method, route, result.as_ref().map(Reply::status), start);
            response(result, context)
        })
        .await
    }

    /// Calls the handler, and evaluates the preconditions of a GET. Those of a change are evaluated by its handler, which has read the
    /// version that they are about: see [`Request::check_match`].
    async fn handle_request(&self, endpoint: &Endpoint<S>, request: Request) -> Result<Reply, Problem> {
        let request = Rc::new(request);
        let handled = (endpoint.handler)(Rc::clone(&self.state), Rc::clone(&request));
        let reply = within(request.deadline(), handled).await?;
        if endpoint.method == "GET" { reply.for_reader(request.preconditions()) } else { Ok(reply) }
    }

    /// The endpoint of a request. API Gateway has chosen it, and read the parameters of the path; the path itself can begin with
    /// anything, such as the mapping of a custom domain.
    fn find(&self, request: &mut ApiGatewayV2httpRequest) -> Option<&Endpoint<S>> {
        let key = request.route_key.as_deref().unwrap_or_default();
        #[cfg(debug_assertions)]
        if key == "$default" {
            return self.find_by_path(request);
        }
        self.with_key(key)
    }

    fn with_key(&self, key: &str) -> Option<&Endpoint<S>> {
        self.all.iter().find(|endpoint| endpoint.has_key(key))
    }

    /// The endpoint of a request that has no route, because it comes from `cargo lambda watch`. Sets the parameters of the path.
    #[cfg(debug_assertions)]
    fn find_by_path(&self, request: &mut ApiGatewayV2httpRequest) -> Option<&Endpoint<S>> {
        let mut routes = Router::new();
        for endpoint in &self.all {
            if request.request_context.http.method == endpoint.method {
                routes.insert(endpoint.path, endpoint).ok()?;
            }
        }
        let found = routes.at(request.raw_path.as_deref()?).ok()?;
        request.path_parameters =
            found.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(found.value)
    }
}

impl<S: 'static> Function for Endpoints<S> {
    async fn handle(&self, event: &RawValue, context: &Context) -> Result<Box<RawValue>, Diagnostic> {
        match &self.call {
            Some(call) if !event::is_request(event) => self.answer_call(call, event, context).await,
            _ => serve::answer(&self.answer(event, context).await),
        }
    }
}

/// The answer of a function that could not start.
pub(crate) async fn not_started(
    event: &RawValue,
    context: &Context,
    error: Error,
) -> ApiGatewayV2httpResponse {
    let (method, route) = RouteKey::of(event).into_parts();
    let origin = Origin::of_request(event);
    telemetry::invocation(context, Kind::Server, &format!("{method} {route}"), origin, async |unit| {
        let problem = Problem::unavailable(error);
        record_outcome(unit, &method, &route, Err(&problem), Instant::now());
        response(Err(problem), context)
    })
    .await
}

/// Runs a handler. A panic and the end of its time are problems like any other.
async fn within<T>(
    deadline: Deadline,
    handler: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    match deadline.bound(AssertUnwindSafe(handler).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Problem::internal("the handler panicked")),
        Err(timed_out) => Err(Problem::unavailable(timed_out)),
    }
}

/// The answer in the form that API Gateway takes, with the trace.
fn response(result: Result<Reply, Problem>, context: &Context) -> ApiGatewayV2httpResponse {
    let mut answer = match result {
        Ok(reply) => reply.into_response(),
        Err(problem) => problem_response(&problem, &format!("urn:uuid:{}", context.request_id)),
    };
    let traceparent = telemetry::traceparent().and_then(|value| HeaderValue::try_from(value).ok());
    if let Some(traceparent) = traceparent {
        answer.headers.insert(TRACE_RESPONSE, traceparent);
    }
    answer
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

/// Writes one line per request, at a level that depends on the outcome, and records the outcome in the trace and the metrics.
fn record_outcome(
    unit: &Unit,
    method: &str,
    route: &str,
    result: Result<StatusCode, &Problem>,
    start: Instant,
) {
    let time = start.elapsed();
    let milliseconds = time.as_secs_f64() * 1e3;
    let code = result.unwrap_or_else(|problem| problem.kind.status());
    let status = code.as_u16();
    let endpoint = format!("{method} {route}");
    LATENCY.record_for(endpoint.clone(), time);
    match code {
        code if code.is_server_error() => SERVER_ERRORS.increment_for(endpoint),
        code if code.is_client_error() => CLIENT_ERRORS.increment_for(endpoint),
        _ => SUCCESSES.increment_for(endpoint),
    }
    unit.annotate("http.response.status_code", i64::from(status));
    let Err(failed) = result else {
        tracing::info!(method, route, status, milliseconds, "answered");
        return;
    };
    let problem = failed.kind.name();
    let cause = failed.cause.as_ref().map(|cause| chain(cause.as_ref())).unwrap_or_default();
    unit.fail(problem);
    if code.is_server_error() {
        tracing::error!(method, route, status, milliseconds, problem, cause, "failed");
    } else {
        tracing::info!(method, route, status, milliseconds, problem, cause, "refused");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const ARA: &str = "0190a6c4-0000-7000-8000-000000000001";

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

    fn endpoints() -> Endpoints<()> {
        async fn handler((): &(), _: &Request) -> Result<Reply, Problem> {
            Ok(Reply::no_content())
        }
        Endpoints::new(())
            .on("GET", "/users/{id}", handler)
            .on("GET", "/users/me", handler)
            .on("DELETE", "/users/me", handler)
            .on("GET", "/posts{?author,limit}", handler)
    }

    fn found(
        route_key: &str,
        method: &str,
        path: &str,
    ) -> Option<(&'static str, &'static str, HashMap<String, String>)> {
        let mut request = ApiGatewayV2httpRequest::default();
        request.route_key = Some(route_key.to_owned());
        request.raw_path = Some(path.to_owned());
        request.request_context.http.method = method.parse().unwrap();
        let endpoints = endpoints();
        let endpoint = endpoints.find(&mut request)?;
        Some((endpoint.method, endpoint.path, request.path_parameters))
    }

    #[test]
    fn the_gateways_route_decides_whatever_the_path_begins_with() {
        for path in ["/users/me", "/v1/users/me", "/users/7", ""] {
            let endpoint = found("GET /users/me", "GET", path);
            assert_eq!(endpoint, Some(("GET", "/users/me", HashMap::new())), "{path}");
        }
        for key in ["POST /users/me", "GET /users", "", "GET", "GET /posts{?author,limit}"] {
            assert_eq!(found(key, "GET", "/users/me"), None, "{key}");
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    fn without_a_route_the_path_decides_and_the_order_of_endpoints_does_not_matter() {
        let found = |method, path| found("$default", method, path);
        assert_eq!(found("GET", "/users/me"), Some(("GET", "/users/me", HashMap::new())));
        assert_eq!(found("DELETE", "/users/me"), Some(("DELETE", "/users/me", HashMap::new())));
        let id = HashMap::from([("id".to_owned(), "7".to_owned())]);
        assert_eq!(found("GET", "/users/7"), Some(("GET", "/users/{id}", id)));
        for (method, path) in [("DELETE", "/users/7"), ("GET", "/v1/users/me"), ("GET", "/")] {
            assert_eq!(found(method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn the_parameters_of_a_query_follow_the_path() {
        let endpoints = endpoints();
        assert_eq!(endpoints.with_key("GET /posts").unwrap().query, ["author", "limit"]);
        assert_eq!(endpoints.with_key("GET /users/me").unwrap().query, [""; 0]);
    }
}
