//! Which handler answers which request, and what every answer has in common.

use std::{
    panic::AssertUnwindSafe,
    rc::Rc,
    time::{Duration, Instant},
};

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use futures::{FutureExt, future::LocalBoxFuture};
use http::{HeaderName, HeaderValue, StatusCode};
use kernel::problem::Problem;
use lambda_http::RequestExt;
use lambda_runtime::{Context, Diagnostic, Error};
use matchit::Router;
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    Reply, Request,
    event::{self, RouteKey},
    reply::problem_response,
    request::Parameters,
};
use crate::{
    deadline::Deadline,
    error::chain,
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
    handler: Handler<S>,
}

/// The endpoints of one function, and the state that their handlers share.
pub struct Endpoints<S> {
    state: Rc<S>,
    paths: Router<Vec<Endpoint<S>>>,
    call: Option<Call<S>>,
}

impl<S: 'static> Endpoints<S> {
    /// No endpoints yet: add them with [`Self::on`].
    pub fn new(state: S) -> Self {
        Self { state: Rc::new(state), paths: Router::new(), call: None }
    }

    /// Adds an endpoint, with the method and path of the template's route.
    ///
    /// # Panics
    /// If two paths of one function conflict: a mistake that the first start should reveal.
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
            let result = match serde_json::from_str(event.get()) {
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
        let request = event::read(event);
        let origin = Origin::of_request(event);
        let (method, path) = match &request {
            Ok(request) => (request.method().as_str().to_owned(), request.raw_http_path().to_owned()),
            Err(_) => RouteKey::of(event).into_parts(),
        };
        let found = self.find(&method, &path);
        let route = match (&request, &found) {
            (Ok(_), Ok((endpoint, _))) => endpoint.path,
            (Ok(_), Err(_)) => "-",
            // API Gateway's own word for the route.
            (Err(_), _) => &path,
        };
        telemetry::invocation(context, Kind::Server, &format!("{method} {route}"), origin, async |unit| {
            let start = Instant::now();
            let result = match request.and_then(|request| Ok((request, found?))) {
                Ok((request, (endpoint, parameters))) => {
                    let request = Request::new(request, parameters, deadline);
                    annotate(unit, &path);
                    // Last, because it overwrites the `user_id` of a path such as `/users/{id}`.
                    if let Some(caller) = request.optional_caller() {
                        unit.annotate("user_id", caller.id.to_string());
                    }
                    within(deadline, (endpoint.handler)(Rc::clone(&self.state), Rc::new(request))).await
                }
                Err(problem) => Err(problem),
            };
            if let Some(made) = result.as_ref().ok().and_then(Reply::location) {
                annotate(unit, made);
            }
            record_outcome(unit, &method, route, result.as_ref().map(Reply::status), start);
            response(result, context)
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
}
