//! Which handler answers which request, and what every answer has in common.

use std::{panic::AssertUnwindSafe, rc::Rc, time::Instant};

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use futures::{FutureExt, future::LocalBoxFuture};
use http::{HeaderName, HeaderValue, StatusCode};
use kernel::problem::Problem;
use lambda_http::{RequestExt, request::LambdaRequest};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use matchit::Router;
use serde_json::Value;
use uuid::Uuid;

use super::{Reply, Request, reply::problem_response, request::Parameters};
use crate::{
    deadline::Deadline,
    error::chain,
    telemetry::{
        self, Unit, XRAY_HEADER, from_xray_header,
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
    /// No endpoints yet: add them with [`Self::on`].
    pub fn new(state: S) -> Self {
        Self { state: Rc::new(state), paths: Router::new() }
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
                record_outcome(unit, "RPC", &function, result.as_ref().map(|_| StatusCode::OK), start);
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
        let header = request.headers().get(XRAY_HEADER).and_then(|header| header.to_str().ok());
        let origin = header.and_then(from_xray_header);
        telemetry::invocation(&context, telemetry::Kind::Server, &name, origin, async |unit| {
            let start = Instant::now();
            let instance = format!("urn:uuid:{}", context.request_id);
            let result = match found {
                Ok((endpoint, parameters)) => {
                    let request = Request::new(request, parameters, Deadline::of(&context));
                    annotate(unit, &path);
                    // Last, because it overwrites the `user_id` of a path such as `/users/{id}`.
                    if let Some(caller) = request.optional_caller() {
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
            record_outcome(unit, &method, route, result.as_ref().map(Reply::status), start);
            let mut answer = match result {
                Ok(reply) => reply.into_response(),
                Err(problem) => problem_response(&problem, &instance),
            };
            let traceparent = telemetry::traceparent().and_then(|value| HeaderValue::try_from(value).ok());
            if let Some(traceparent) = traceparent {
                answer.headers.insert(TRACE_RESPONSE, traceparent);
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
