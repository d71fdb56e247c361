//! The proxy between a function and AWS.
//!
//! For each call a [`Fate`] is decided, by a rule that the test gives. A call that passes is sent on unchanged.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, Uri},
    response::Response,
};
use futures::{future::pending, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};
use uuid::Uuid;

use crate::System;

/// The operations that change something.
const WRITES: [&str; 13] = [
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "BatchWriteItem",
    "TransactWriteItems",
    "PutEvents",
    "SendMessage",
    "DeleteMessage",
    "SendEmail",
    "AdminDeleteUser",
    "StartExecution",
    "RegisterInstance",
    "DeregisterInstance",
];

/// A call that a function made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The operation: `GetItem`, `PutEvents`; method and path if it is a call of another service.
    pub operation: String,
    /// Its input.
    pub input: Value,
    /// Its trace context: the header `X-Amzn-Trace-Id`.
    pub trace: Option<String>,
}

impl Call {
    fn read(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let operation = match (header("x-amz-target"), method.as_str(), uri.path()) {
            (Some(target), ..) => target.rsplit('.').next().unwrap_or_default().to_owned(),
            // The APIs of SES and Lambda have no such header: paths name their operations.
            (None, "POST", "/v2/email/outbound-emails") => "SendEmail".to_owned(),
            (None, "POST", path) if path.ends_with("/invocations") => "Invoke".to_owned(),
            (None, method, path) => format!("{method} {path}"),
        };
        let trace = header("x-amzn-trace-id").map(str::to_owned);
        Self { operation, input: serde_json::from_slice(body).unwrap_or_default(), trace }
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        WRITES.contains(&self.operation.as_str())
    }
}

/// The answer to a refused call.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: Value,
}

impl Refusal {
    /// DynamoDB throttles.
    pub fn throttled() -> Self {
        let kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
        Self { status: 400, body: json!({"__type": kind, "message": "slow down"}) }
    }

    /// AWS has an internal failure.
    pub fn failure() -> Self {
        Self { status: 500, body: json!({"__type": "InternalFailure", "message": "out of order"}) }
    }

    /// SES refuses a mail, with a message that names the recipient, as on AWS.
    pub fn rejected(address: &str) -> Self {
        let message = format!(
            "Email address is not verified. The following identities failed the check in region US-EAST-1: {address}"
        );
        Self { status: 400, body: json!({"__type": "MessageRejected", "message": message}) }
    }

    /// `PutEvents` accepts all entries except those that `refused` selects. This is only an answer: nothing reaches the bus.
    pub fn entries(call: &Call, refused: impl Fn(&Value) -> bool) -> Self {
        Self::entries_because(call, "ThrottlingException", refused)
    }

    /// Like [`Self::entries`], with the reason of each refusal: its `ErrorCode`.
    pub fn entries_because(call: &Call, reason: &str, refused: impl Fn(&Value) -> bool) -> Self {
        let entries = call.input["Entries"].as_array().expect("PutEvents has entries");
        let failed = entries.iter().filter(|entry| refused(entry)).count();
        let of_one = |entry| {
            if refused(entry) {
                json!({"ErrorCode": reason, "ErrorMessage": "refused"})
            } else {
                json!({"EventId": Uuid::now_v7()})
            }
        };
        let answers: Vec<Value> = entries.iter().map(of_one).collect();
        Self { status: 200, body: json!({"FailedEntryCount": failed, "Entries": answers}) }
    }
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It takes effect, and the function gets the answer.
    Pass,
    /// It has no effect, and the function gets this answer instead.
    Refuse(Refusal),
    /// It takes effect, but the connection is closed before the first byte of the answer.
    LoseAnswer,
    /// It has no effect, and the function never gets an answer. The connection stays open.
    Swallow,
}

type Rule = Box<dyn FnMut(&Call) -> Fate + Send>;

struct Shared {
    endpoint: String,
    http: reqwest::Client,
    calls: Mutex<Vec<Call>>,
    lost: Mutex<Vec<Call>>,
    rule: Mutex<Rule>,
    delay: Mutex<Duration>,
}

/// A proxy in front of the local cloud.
pub struct Proxy {
    /// Its address.
    pub url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    /// Starts one that lets every call through.
    pub async fn start(system: &System) -> Self {
        Self::in_front_of(system.output("endpoint_url")).await
    }

    /// Starts one in front of the server at this address.
    async fn in_front_of(endpoint: &str) -> Self {
        let shared = Arc::new(Shared {
            endpoint: endpoint.to_owned(),
            http: reqwest::Client::new(),
            calls: Mutex::default(),
            lost: Mutex::default(),
            rule: Mutex::new(Box::new(|_| Fate::Pass)),
            delay: Mutex::default(),
        });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("the proxy runs") });
        Self { url, shared, server }
    }

    /// From now on decides what happens to each call.
    pub fn decide(&self, rule: impl FnMut(&Call) -> Fate + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// From now on refuses the calls for which `rule` returns a refusal.
    pub fn refuse(&self, rule: impl Fn(&Call) -> Option<Refusal> + Send + 'static) {
        self.decide(move |call| rule(call).map_or(Fate::Pass, Fate::Refuse));
    }

    /// From now on swallows the calls that `rule` selects.
    pub fn swallow(&self, rule: impl Fn(&Call) -> bool + Send + 'static) {
        self.decide(move |call| if rule(call) { Fate::Swallow } else { Fate::Pass });
    }

    /// From now on loses the answers to one write: to the first `times` attempts of the `index`-th write, counted from zero.
    /// Attempts of one write are calls with the same input. Forgets the answers that were lost before.
    pub fn lose_answers(&self, index: usize, times: usize) {
        self.shared.lost.lock().unwrap().clear();
        let mut writes: Vec<(Call, usize)> = Vec::new();
        self.decide(move |call| {
            if !call.is_write() {
                return Fate::Pass;
            }
            let same =
                |(other, _): &(Call, usize)| other.operation == call.operation && other.input == call.input;
            let position = writes.iter().position(same).unwrap_or_else(|| {
                writes.push((call.clone(), 0));
                writes.len() - 1
            });
            let attempts = &mut writes[position].1;
            *attempts += 1;
            if position == index && *attempts <= times { Fate::LoseAnswer } else { Fate::Pass }
        });
    }

    /// The calls whose answers were lost.
    pub fn lost(&self) -> Vec<Call> {
        self.shared.lost.lock().unwrap().clone()
    }

    /// From now on lets every call through.
    pub fn allow_all(&self) {
        self.decide(|_| Fate::Pass);
    }

    /// From now on makes every call take this much longer.
    pub fn slow_down(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    /// The calls so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// The operations called so far, oldest first.
    pub fn operations(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.operation).collect()
    }

    /// Like [`Self::operations`], with the reads before the first write sorted by name, because a function may make them at the same
    /// time.
    pub fn operations_with_reads_sorted(&self) -> Vec<String> {
        let calls = self.calls();
        let reads = calls.iter().position(Call::is_write).unwrap_or(calls.len());
        let mut operations: Vec<String> = calls.into_iter().map(|call| call.operation).collect();
        operations[..reads].sort_unstable();
        operations
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body: Bytes = to_bytes(body, usize::MAX).await.expect("the call's body");
    let call = Call::read(&head.method, &head.uri, &head.headers, &body);
    shared.calls.lock().unwrap().push(call.clone());
    let delay = *shared.delay.lock().unwrap();
    if !delay.is_zero() {
        sleep(delay).await;
    }
    let fate = shared.rule.lock().unwrap()(&call);
    // The headers are passed on unchanged, `Host` included, because the signature covers it.
    let url = format!("{}{}", shared.endpoint, head.uri);
    let forwarded = shared.http.request(head.method, url).headers(head.headers).body(body);
    match fate {
        Fate::Pass => pass_on(forwarded.send().await.expect("the local cloud answers")).await,
        Fate::Refuse(refusal) => {
            let answer = Response::builder()
                .status(refusal.status)
                .header("content-type", "application/x-amz-json-1.0");
            answer.body(Body::from(refusal.body.to_string())).unwrap()
        }
        Fate::LoseAnswer => {
            let answer = forwarded.send().await.expect("the local cloud answers");
            drop(answer.bytes().await);
            shared.lost.lock().unwrap().push(call);
            // A body that fails before its first byte: the server closes the connection without sending the head, which it
            // would have sent together with that byte.
            Response::new(Body::from_stream(stream::once(async {
                Err::<Bytes, _>(io::Error::other("lost"))
            })))
        }
        Fate::Swallow => pending().await,
    }
}

async fn pass_on(answer: reqwest::Response) -> Response {
    let mut response = Response::builder().status(answer.status());
    response.headers_mut().unwrap().extend(answer.headers().clone());
    response.headers_mut().unwrap().remove("transfer-encoding");
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::any;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::timeout,
    };

    use super::*;

    const PUT: &str = "POST / HTTP/1.1\r\nHost: aws\r\nX-Amz-Target: DynamoDB_20120810.PutItem\r\n\
                       Content-Length: 2\r\n\r\n{}";

    /// A server that answers every request with 200, the number of its requests, and a proxy in front of it.
    async fn server_and_proxy() -> (Arc<AtomicUsize>, Proxy) {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let app = Router::new().fallback(any(async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            "{}"
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (requests, Proxy::in_front_of(&url).await)
    }

    /// What a client that makes one call over a connection of its own reads until the connection is closed; an error if it
    /// stays open.
    async fn read(proxy: &Proxy, call: &str) -> Result<String, &'static str> {
        let mut connection = TcpStream::connect(proxy.url.trim_start_matches("http://")).await.unwrap();
        connection
            .write_all(call.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut bytes = Vec::new();
        let ended = timeout(Duration::from_secs(1), connection.read_to_end(&mut bytes)).await;
        ended.map_err(|_| "open")?.map_err(|_| "reset")?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[tokio::test]
    async fn a_lost_answer_is_a_call_that_took_effect_and_a_connection_closed_without_a_byte() {
        let (requests, proxy) = server_and_proxy().await;
        proxy.lose_answers(0, 2);
        for _ in 0..2 {
            assert_eq!(read(&proxy, PUT).await, Ok(String::new()));
        }
        assert_eq!((requests.load(Ordering::SeqCst), proxy.lost().len()), (2, 2));
        assert!(read(&proxy, PUT).await.unwrap().starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn only_the_selected_write_loses_its_answer() {
        let (_, proxy) = server_and_proxy().await;
        proxy.lose_answers(1, 1);
        let [get, other] = [PUT.replace("PutItem", "GetItem"), PUT.replace("PutItem", "UpdateItem")];
        for passes in [PUT, &get, PUT] {
            assert!(read(&proxy, passes).await.unwrap().starts_with("HTTP/1.1 200"), "{passes}");
        }
        assert_eq!(read(&proxy, &other).await, Ok(String::new()));
        assert_eq!(proxy.operations(), ["PutItem", "GetItem", "PutItem", "UpdateItem"]);
    }

    #[tokio::test]
    async fn a_swallowed_call_has_no_effect_and_its_connection_stays_open() {
        let (requests, proxy) = server_and_proxy().await;
        proxy.swallow(Call::is_write);
        assert_eq!(read(&proxy, PUT).await, Err("open"));
        assert_eq!(requests.load(Ordering::SeqCst), 0);
        assert!(read(&proxy, &PUT.replace("PutItem", "GetItem")).await.unwrap().starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_refused_call_has_no_effect_and_gets_the_refusal() {
        let (requests, proxy) = server_and_proxy().await;
        proxy.refuse(|_| Some(Refusal::throttled()));
        let answer = read(&proxy, PUT).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.ends_with(r#""message":"slow down"}"#),
            "{answer}"
        );
        assert_eq!(requests.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn calls_of_apis_without_a_target_are_named_by_their_paths() {
        let (_, proxy) = server_and_proxy().await;
        for path in [
            "/v2/email/outbound-emails",
            "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Ausers-lookup/invocations",
            "/_aws/execute-api/5c0ffee5/internal/users/7",
        ] {
            let call = format!("POST {path} HTTP/1.1\r\nHost: aws\r\nContent-Length: 0\r\n\r\n");
            assert!(read(&proxy, &call).await.unwrap().starts_with("HTTP/1.1 200"), "{path}");
        }
        let expected = ["SendEmail", "Invoke", "POST /_aws/execute-api/5c0ffee5/internal/users/7"];
        assert_eq!(proxy.operations(), expected);
    }

    /// A client of DynamoDB behind the proxy, with the SDK's own retries.
    async fn sdk(proxy: &Proxy) -> aws_sdk_dynamodb::Client {
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(&proxy.url)
            .region(aws_config::Region::new("us-east-1"))
            .credentials_provider(aws_sdk_sqs::config::Credentials::new("test", "test", None, None, "test"))
            .load()
            .await;
        aws_sdk_dynamodb::Client::new(&config)
    }

    #[tokio::test]
    async fn the_sdk_repeats_a_call_whose_answer_was_lost_twice_at_most() {
        let (requests, proxy) = server_and_proxy().await;
        let client = sdk(&proxy).await;
        for (times, succeeds) in [(0, true), (1, true), (2, true), (3, false)] {
            let before = requests.load(Ordering::SeqCst);
            proxy.lose_answers(0, times);
            let answer = client.put_item().table_name("posts").set_item(Some([].into())).send().await;
            assert_eq!(answer.is_ok(), succeeds, "{times}: {answer:?}");
            let made = requests.load(Ordering::SeqCst) - before;
            assert_eq!((proxy.lost().len(), made), (times, (times + 1).min(3)));
        }
    }
}
