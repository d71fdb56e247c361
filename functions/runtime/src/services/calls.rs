//! Calls to other services: one client, two transports.
//!
//! Both get one entity by its id, with three outcomes: the entity, that it does not exist, and that the service is
//! unavailable ([`Unavailable`], with every attempt, for the operator).
//!
//! | | by HTTP | by RPC |
//! |---|---|---|
//! | goes to | the API, `GET <url><path>`, signed (`SigV4`) | the function itself, Lambda's `Invoke` |
//! | permission | `execute-api:Invoke` on that route | `lambda:InvokeFunction` on that function |
//! | it exists | 200 | `{"<name>": …}` |
//! | it does not | 404 as a problem document | `{"<name>": null}` |
//!
//! A call ends before the caller's deadline. Reading is safe to repeat, so a failed attempt is retried at most twice,
//! on another instance if there is one, after a pause of random length ("full jitter":
//! <https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/>). A 4xx is not retried, 429
//! included: that is left to whatever retries the caller (its client, its queue, the state machine).
//!
//! A client for another entity needs only its description: see [`User`](crate::users::User).

use std::{
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use aws_config::{SdkConfig, retry::RetryConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_lambda::primitives::{Blob, ByteStream};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, SharedHttpConnector},
    orchestrator::HttpRequest,
};
use aws_smithy_types::body::SdkBody;
use backon::Retryable;
use http::{StatusCode, header};
use kernel::{
    address::{BaseUrl, FunctionArn},
    problem::{self, Kind, Problem},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use thiserror::Error as ThisError;
use tokio::time::timeout;
use uuid::Uuid;

use super::directory::{self, Directory, Instance, ResolveError};
use crate::{
    Error, aws,
    deadline::Deadline,
    error::chain,
    retry::Retries,
    telemetry::{self, XRAY_HEADER, metrics::CALL_FAILURES, xray_header},
};

/// Time-out of a call, all attempts included.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// The part of the remaining time that a caller keeps for its own work.
const RESERVED_TIME: Duration = Duration::from_millis(500);
/// Time-out of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Maximum retries.
const MAX_RETRIES: usize = 2;
/// Maximum pause before the first retry; twice that before the second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Maximum size of an answer, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// An entity that belongs to another service.
pub trait Entity: DeserializeOwned {
    /// The service's name in the registry.
    const SERVICE: &'static str;
    /// The entity's field in the answer to an invoke.
    const NAME: &'static str;
    /// The path of the collection, to which an id is appended.
    const PATH: &'static str;

    /// Its id. An answer with another id is an error.
    fn id(&self) -> Uuid;
}

/// The entity could not be read: the service was not found, did not answer in time, refused, or answered with something else.
#[derive(Debug, ThisError)]
#[error("the service {service} is not available")]
pub struct Unavailable {
    service: &'static str,
    #[source]
    attempts: Attempts,
}

/// The attempts of a call, in order, for the log: the address and the result of each.
#[derive(Debug, ThisError)]
#[error("{}", .0.join("; "))]
struct Attempts(Vec<String>);

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        Self::unavailable(error)
    }
}

/// Gets entities of one type from another service.
#[derive(Clone, Debug)]
pub struct Client<T> {
    directory: Arc<dyn Directory>,
    transport: Transport,
    entity: PhantomData<fn() -> T>,
}

#[derive(Clone, Debug)]
enum Transport {
    Http { connector: SharedHttpConnector, config: &'static SdkConfig },
    Rpc(aws_sdk_lambda::Client),
}

impl Transport {
    fn rpc(config: &SdkConfig) -> Self {
        // [`Client::get`] retries, for both transports alike.
        let config = aws::traced!(aws_sdk_lambda, config).retry_config(RetryConfig::disabled());
        Self::Rpc(aws_sdk_lambda::Client::from_conf(config.build()))
    }
}

/// Why one attempt failed.
struct AttemptError {
    reason: String,
    retryable: bool,
}

impl AttemptError {
    /// A failure after which a retry, perhaps on another instance, may succeed.
    fn retryable(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retryable: true }
    }

    /// A failure that a retry would not change.
    fn permanent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retryable: false }
    }
}

/// What has happened so far in a call. Shared, because an attempt that a time-out ends cannot return anything.
#[derive(Default)]
struct CallLog(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    /// The attempts that have failed: the address and the reason of each.
    failed: Vec<String>,
    /// The address of the current attempt.
    target: Option<String>,
    /// The instances that were called.
    called: Vec<String>,
}

impl CallLog {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current attempt calls an instance at this address.
    fn begin(&self, instance: &Instance, target: String) {
        let mut entries = self.entries();
        entries.called.push(instance.id.clone());
        entries.target = Some(target);
    }

    /// The current attempt has failed.
    fn fail(&self, reason: &str) {
        let mut entries = self.entries();
        let target = entries.target.take().map(|target| format!("{target}: ")).unwrap_or_default();
        entries.failed.push(format!("{target}{reason}"));
    }

    fn called(&self) -> Vec<String> {
        self.entries().called.clone()
    }

    fn into_attempts(self) -> Attempts {
        Attempts(self.0.into_inner().unwrap_or_else(PoisonError::into_inner).failed)
    }
}

impl<T: Entity> Client<T> {
    /// Calls by HTTP, through the API.
    pub async fn http() -> Result<Self, Error> {
        let transport = Transport::Http { connector: aws::connector(), config: aws::config().await };
        Ok(Self::new(directory::connect().await?, transport))
    }

    /// Calls by RPC, which invokes the function itself.
    pub async fn rpc() -> Result<Self, Error> {
        Ok(Self::new(directory::connect().await?, Transport::rpc(aws::config().await)))
    }

    fn new(directory: Arc<dyn Directory>, transport: Transport) -> Self {
        Self { directory, transport, entity: PhantomData }
    }

    /// The entity with this id, or `None` if it does not exist. Returns early enough for the caller to
    /// finish by `deadline`.
    pub async fn get(&self, id: Uuid, deadline: Deadline) -> Result<Option<T>, Unavailable> {
        let by = match self.transport {
            Transport::Http { .. } => "HTTP",
            Transport::Rpc(_) => "RPC",
        };
        let outcome = |found: &Result<_, _>| found.is_err().then(|| "unavailable".to_owned());
        let name = format!("{} by {by}", T::SERVICE);
        let found = telemetry::in_span(&name, outcome, self.get_with_retries(id, deadline)).await;
        if found.is_err() {
            CALL_FAILURES.increment_for(T::SERVICE);
        }
        found
    }

    async fn get_with_retries(&self, id: Uuid, deadline: Deadline) -> Result<Option<T>, Unavailable> {
        let time_limit = deadline.time_out(CALL_TIMEOUT, RESERVED_TIME);
        let log = CallLog::default();
        let attempt = async || {
            let result = timeout(ATTEMPT_TIMEOUT, self.attempt(id, &log)).await.unwrap_or_else(|_| {
                Err(AttemptError::retryable(format!("no answer within {} ms", ATTEMPT_TIMEOUT.as_millis())))
            });
            if let Err(error) = &result {
                self.directory.invalidate(T::SERVICE);
                log.fail(&error.reason);
            }
            result
        };
        if time_limit.is_zero() {
            log.fail("no time was left for the call");
        } else {
            let retries = Retries::new(FIRST_PAUSE, MAX_RETRIES);
            let call = attempt.retry(retries).when(|error: &AttemptError| error.retryable);
            match timeout(time_limit, call).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(_)) => {}
                Err(_) => log.fail(&format!("the call timed out after {} ms", time_limit.as_millis())),
            }
        }
        Err(Unavailable { service: T::SERVICE, attempts: log.into_attempts() })
    }

    async fn attempt(&self, id: Uuid, log: &CallLog) -> Result<Option<T>, AttemptError> {
        let instances = self.directory.resolve(T::SERVICE).await.map_err(|error| match error {
            ResolveError::NotFound(_) => AttemptError::permanent(error.to_string()),
            ResolveError::Unavailable(_) => AttemptError::retryable(error.to_string()),
        })?;
        let found = match &self.transport {
            Transport::Http { connector, config } => {
                let (instance, url) = choose(&instances, &log.called(), |instance| instance.url.as_deref())
                    .ok_or_else(|| {
                    AttemptError::permanent(format!("no instance of {} has a URL", T::SERVICE))
                })?;
                log.begin(instance, format!("GET {}{id} at {url} (instance {})", T::PATH, instance.id));
                // Another instance may have a valid address.
                let base: BaseUrl =
                    url.parse().map_err(|error| AttemptError::retryable(format!("the URL {error}")))?;
                let request = signed(config, &format!("{base}{}{id}", T::PATH)).await.map_err(|error| {
                    AttemptError::retryable(format!(
                        "the request could not be signed: {}",
                        chain(error.as_ref())
                    ))
                })?;
                get::<T>(connector, request).await?
            }
            Transport::Rpc(lambda) => {
                let (instance, arn) =
                    choose(&instances, &log.called(), |instance| instance.function_arn.as_deref())
                        .ok_or_else(|| {
                            AttemptError::permanent(format!(
                                "no instance of {} has a function ARN",
                                T::SERVICE
                            ))
                        })?;
                log.begin(instance, format!("Invoke {arn} (instance {})", instance.id));
                let arn: FunctionArn =
                    arn.parse().map_err(|error| AttemptError::retryable(format!("the function {error}")))?;
                invoke::<T>(lambda, &arn, id).await?
            }
        };
        match found {
            Some(entity) if entity.id() != id => {
                Err(AttemptError::retryable(format!("the response is a different {}", T::NAME)))
            }
            found => Ok(found),
        }
    }
}

/// A random instance with an address for the transport, preferably one that has not been called.
fn choose<'a>(
    instances: &'a [Instance],
    called: &[String],
    address: impl Fn(&'a Instance) -> Option<&'a str>,
) -> Option<(&'a Instance, &'a str)> {
    let usable: Vec<_> =
        instances.iter().filter_map(|instance| Some((instance, address(instance)?))).collect();
    let new: Vec<_> = usable.iter().filter(|(instance, _)| !called.contains(&instance.id)).collect();
    if new.is_empty() { fastrand::choice(usable) } else { fastrand::choice(new).copied() }
}

async fn get<T: Entity>(
    connector: &SharedHttpConnector,
    request: HttpRequest,
) -> Result<Option<T>, AttemptError> {
    let answer = connector.call(request).await.map_err(|error| AttemptError::retryable(chain(&error)))?;
    let status = StatusCode::from_u16(answer.status().as_u16())
        .map_err(|_| AttemptError::retryable("the answer has no HTTP status"))?;
    let media_type = answer.headers().get(header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let is_problem = media_type.starts_with(problem::MEDIA_TYPE);
    match status {
        StatusCode::OK => {
            let body = read(answer.into_body()).await?;
            // Not serde_json's own message, which could quote the answer.
            serde_json::from_slice(&body)
                .map(Some)
                .map_err(|_| AttemptError::retryable(format!("200, but the body is not a {}", T::NAME)))
        }
        StatusCode::NOT_FOUND if is_problem => {
            let body: Value = serde_json::from_slice(&read(answer.into_body()).await?).unwrap_or_default();
            if body["type"] == Kind::NotFound.uri() {
                Ok(None)
            } else {
                Err(AttemptError::permanent("404, but with another problem than not-found"))
            }
        }
        // A gateway without such a route answers 404 too, but then the address is wrong and not the id.
        StatusCode::NOT_FOUND => {
            Err(AttemptError::permanent("404, but not from the service: check the address"))
        }
        status if status.is_client_error() => Err(AttemptError::permanent(format!("refused with {status}"))),
        status => Err(AttemptError::retryable(format!("answered {status}"))),
    }
}

async fn read(body: SdkBody) -> Result<Vec<u8>, AttemptError> {
    let mut body = ByteStream::new(body);
    let mut read = Vec::new();
    while let Some(bytes) = body.next().await {
        let bytes =
            bytes.map_err(|error| AttemptError::retryable(format!("the response was cut off: {error}")))?;
        if read.len() + bytes.len() > MAX_ANSWER {
            return Err(AttemptError::retryable(format!(
                "the response is larger than {} KiB",
                MAX_ANSWER / 1024
            )));
        }
        read.extend_from_slice(&bytes);
    }
    Ok(read)
}

/// A signed `GET`.
async fn signed(config: &SdkConfig, url: &str) -> Result<HttpRequest, Error> {
    let credentials = config.credentials_provider().ok_or("there are no credentials")?;
    let identity = credentials.provide_credentials().await?.into();
    let region = config.region().ok_or("there is no region")?;
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region.as_ref())
        .name("execute-api")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let mut request =
        http::Request::get(url).header(header::ACCEPT, "application/json").body(SdkBody::empty())?;
    let accept = [(header::ACCEPT.as_str(), "application/json")];
    let signable = SignableRequest::new("GET", url, accept.into_iter(), SignableBody::Bytes(&[]))?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    // Added after signing, because AWS services on the way rewrite it.
    if let Some(header) = xray_header() {
        request.headers_mut().insert(XRAY_HEADER, header.try_into()?);
    }
    Ok(request.try_into()?)
}

async fn invoke<T: Entity>(
    lambda: &aws_sdk_lambda::Client,
    function: &FunctionArn,
    id: Uuid,
) -> Result<Option<T>, AttemptError> {
    let input = Blob::new(json!({"id": id}).to_string());
    let answer = lambda.invoke().function_name(function.as_str()).payload(input).send().await;
    let answer = answer.map_err(|error| {
        let refused = error.raw_response().is_some_and(|answer| answer.status().is_client_error());
        AttemptError { reason: chain(&error), retryable: !refused }
    })?;
    if let Some(error) = answer.function_error {
        return Err(AttemptError::retryable(format!("the function failed: {error}")));
    }
    let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
    // Not serde_json's own message, which could quote the answer.
    let malformed = || AttemptError::retryable(format!("the output is not a {}", T::NAME));
    let mut answer: Map<String, Value> = serde_json::from_slice(&payload).map_err(|_| malformed())?;
    // Missing is not null: a function that does not understand the input would also omit the field.
    let entity = answer.remove(T::NAME).ok_or_else(malformed)?;
    serde_json::from_value(entity).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::{TcpListener, TcpStream},
        thread,
        time::Instant,
    };

    use aws_config::Region;
    use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
    use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
    use aws_smithy_runtime_api::client::http::http_client_fn;
    use futures::{FutureExt, future::BoxFuture};
    use serde::Deserialize;

    use super::*;
    use crate::services::directory::Instances;

    /// A complete client for another service.
    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Post {
        id: Uuid,
        title: String,
    }

    impl Entity for Post {
        const SERVICE: &'static str = "posts";
        const NAME: &'static str = "post";
        const PATH: &'static str = "/posts/";

        fn id(&self) -> Uuid {
            self.id
        }
    }

    type PostsClient = Client<Post>;

    const ID: Uuid = Uuid::from_u128(7);
    const PLENTY: Duration = Duration::from_mins(1);
    const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:posts-lookup";

    /// A server that answers each request by its number. An empty answer resets the connection, `None` never answers.
    struct Server {
        url: String,
        requests: Arc<Mutex<Vec<String>>>,
        connections: Arc<Mutex<usize>>,
    }

    impl Server {
        fn start(answer: impl Fn(usize) -> Option<String> + Send + Sync + 'static) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let (requests, connections) =
                (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<usize>>::default());
            let server = Self { url, requests: Arc::clone(&requests), connections: Arc::clone(&connections) };
            let answer = Arc::new(answer);
            thread::spawn(move || {
                for connection in listener.incoming() {
                    *connections.lock().unwrap() += 1;
                    let (answer, requests) = (Arc::clone(&answer), Arc::clone(&requests));
                    thread::spawn(move || converse(connection.unwrap(), &*answer, &requests));
                }
            });
            server
        }

        fn requests(&self) -> Vec<String> {
            self.requests.lock().unwrap().clone()
        }
    }

    fn converse(
        mut connection: TcpStream,
        answer: &dyn Fn(usize) -> Option<String>,
        requests: &Mutex<Vec<String>>,
    ) {
        let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
        loop {
            let mut head = String::new();
            loop {
                match lines.next() {
                    Some(Ok(line)) if line.is_empty() => break,
                    Some(Ok(line)) => {
                        head.push_str(&line);
                        head.push('\n');
                    }
                    // The connection was closed. What is left in `head` is the body of the last request, not a new request.
                    _ => return,
                }
            }
            let number = {
                let mut requests = requests.lock().unwrap();
                requests.push(head);
                requests.len() - 1
            };
            match answer(number) {
                Some(answer) if answer.is_empty() => return,
                Some(answer) => connection.write_all(answer.as_bytes()).unwrap(),
                None => thread::sleep(PLENTY),
            }
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "answers of a `Server` are optional")]
    fn answer(status: &str, media_type: &str, body: &str) -> Option<String> {
        let length = body.len();
        Some(format!(
            "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    fn post() -> Option<String> {
        answer("200 OK", "application/json", &json!({"id": ID, "title": "Spring"}).to_string())
    }

    fn spring() -> Post {
        Post { id: ID, title: "Spring".to_owned() }
    }

    /// A directory that returns the given instances, and counts the calls of `invalidate`.
    #[derive(Debug)]
    struct Fixed(Result<Instances, ResolveError>, Mutex<usize>);

    impl Directory for Fixed {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Instances, ResolveError>> {
            async { self.0.clone() }.boxed()
        }

        fn invalidate(&self, _: &str) {
            *self.1.lock().unwrap() += 1;
        }
    }

    fn at(urls: &[&str]) -> Arc<Fixed> {
        let instance = |(number, url): (usize, &&str)| Instance {
            id: number.to_string(),
            url: Some((*url).to_owned()),
            function_arn: Some(ARN.to_owned()),
        };
        Arc::new(Fixed(Ok(urls.iter().enumerate().map(instance).collect()), Mutex::default()))
    }

    fn config(endpoint: &str) -> SdkConfig {
        let credentials = Credentials::new("id", "secret", Some("token".to_owned()), None, "test");
        SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http_client_fn(|_, _| aws::connector()))
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .endpoint_url(endpoint)
            .build()
    }

    fn http(directory: Arc<dyn Directory>) -> PostsClient {
        let config = Box::leak(Box::new(config("http://127.0.0.1:1")));
        Client::new(directory, Transport::Http { connector: aws::connector(), config })
    }

    fn rpc(server: &Server) -> PostsClient {
        Client::new(at(&["https://posts.example"]), Transport::rpc(&config(&server.url)))
    }

    fn reason(answer: Result<Option<Post>, Unavailable>) -> String {
        let error = answer.unwrap_err();
        assert_eq!(error.to_string(), "the service posts is not available");
        std::error::Error::source(&error).unwrap().to_string()
    }

    #[tokio::test]
    async fn an_entity_is_requested_by_one_signed_get() {
        let server = Server::start(|_| post());
        let found = http(at(&[&server.url])).get(ID, Deadline::after(PLENTY)).await.unwrap();
        assert_eq!(found, Some(spring()));
        let requests = server.requests();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].starts_with(&format!("GET /posts/{ID} HTTP/1.1\n")), "{requests:?}");
        for header in ["authorization: AWS4-HMAC-SHA256 Credential=id/", "x-amz-security-token: token"] {
            assert!(requests[0].contains(header), "{requests:?}");
        }
        assert!(requests[0].contains("/us-east-1/execute-api/aws4_request"), "{requests:?}");
    }

    #[tokio::test]
    async fn a_404_from_the_service_means_that_the_entity_does_not_exist() {
        let problem = Problem::not_found("post").to_json("urn:uuid:1").to_string();
        let server = Server::start(move |_| answer("404 Not Found", problem::MEDIA_TYPE, &problem));
        assert_eq!(http(at(&[&server.url])).get(ID, Deadline::after(PLENTY)).await.unwrap(), None);
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn a_404_from_the_gateway_is_a_wrong_address() {
        let server =
            Server::start(|_| answer("404 Not Found", "application/json", r#"{"message":"Not Found"}"#));
        let reason = reason(http(at(&[&server.url])).get(ID, Deadline::after(PLENTY)).await);
        assert!(reason.contains("not from the service: check the address"), "{reason}");
        assert!(reason.contains(&server.url), "{reason}");
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn a_4xx_is_not_retried() {
        for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "429 Too Many Requests"] {
            let server = Server::start(move |_| answer(status, "application/json", "{}"));
            let reason = reason(http(at(&[&server.url])).get(ID, Deadline::after(PLENTY)).await);
            assert!(reason.ends_with(&format!("refused with {status}")), "{reason}");
            assert_eq!(server.requests().len(), 1, "{status}");
        }
    }

    #[tokio::test]
    async fn a_failing_service_is_tried_again_and_each_attempt_is_reported() {
        let rubbish = json!({"id": ID}).to_string();
        let another = json!({"id": Uuid::from_u128(8), "title": "Autumn"}).to_string();
        for (faulty, told) in [
            (answer("500 Internal Server Error", "application/json", "{}"), "answered 500"),
            (answer("503 Service Unavailable", "text/html", "<h1>"), "answered 503"),
            (answer("302 Found", "text/html", ""), "answered 302"),
            (answer("200 OK", "application/json", "rubbish"), "200, but the body is not a post"),
            (answer("200 OK", "application/json", ""), "200, but the body is not a post"),
            (answer("200 OK", "application/json", &rubbish), "200, but the body is not a post"),
            (answer("200 OK", "application/json", &another), "the response is a different post"),
            (Some("SSH-2.0-OpenSSH_9.6\r\n".to_owned()), "invalid HTTP"),
            (Some("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{".to_owned()), "no answer within 1500 ms"),
            (Some(String::new()), "connection"),
        ] {
            let server = Server::start(move |_| faulty.clone());
            let directory = at(&[&server.url]);
            let reason = reason(http(Arc::clone(&directory) as _).get(ID, Deadline::after(PLENTY)).await);
            assert!(reason.contains(told), "{told}: {reason}");
            let place = format!("GET /posts/{ID} at {} (instance 0): ", server.url);
            // The call's time-out leaves time for fewer than three attempts.
            if told.starts_with("no answer") {
                continue;
            }
            assert_eq!(reason.matches(&place).count(), 3, "{reason}");
            assert_eq!(*directory.1.lock().unwrap(), 3, "each attempt invalidates the directory's answer");
        }
    }

    #[tokio::test]
    async fn a_response_over_256_kib_is_an_error() {
        let endless = format!("[{}", "0,".repeat(MAX_ANSWER));
        let server = Server::start(move |_| answer("200 OK", "application/json", &endless));
        let reason = reason(http(at(&[&server.url])).get(ID, Deadline::after(PLENTY)).await);
        assert!(reason.contains("the response is larger than 256 KiB"), "{reason}");
    }

    #[tokio::test]
    async fn a_silent_service_is_given_up_before_the_callers_deadline() {
        let server = Server::start(|_| None);
        let start = Instant::now();
        let reason = reason(
            http(at(&[&server.url]))
                .get(ID, Deadline::after(RESERVED_TIME + Duration::from_millis(300)))
                .await,
        );
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        let limit =
            reason.strip_suffix(" ms").and_then(|reason| reason.rsplit_once("the call timed out after "));
        let milliseconds: u64 = limit.unwrap().1.parse().unwrap();
        assert!((200..=300).contains(&milliseconds), "{reason}");
        assert!(reason.contains(&server.url), "{reason}");

        let start = Instant::now();
        let client = http(at(&[&server.url]));
        let reason = self::reason(client.get(ID, Deadline::after(RESERVED_TIME)).await);
        assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
        assert_eq!(reason, "no time was left for the call");
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn a_silent_attempt_times_out_and_is_retried_within_four_seconds() {
        let server = Server::start(|number| if number == 0 { None } else { post() });
        assert_eq!(http(at(&[&server.url])).get(ID, Deadline::after(PLENTY)).await.unwrap(), Some(spring()));
        let silent = Server::start(|_| None);
        let start = Instant::now();
        let reason = reason(http(at(&[&silent.url])).get(ID, Deadline::after(PLENTY)).await);
        assert!(start.elapsed() < CALL_TIMEOUT + Duration::from_millis(200), "{:?}", start.elapsed());
        assert_eq!(reason.matches("no answer within 1500 ms").count(), 2, "{reason}");
        assert!(reason.ends_with("the call timed out after 4000 ms"), "{reason}");
    }

    #[tokio::test]
    async fn a_retry_goes_to_another_instance() {
        let (down, up) = (Server::start(|_| answer("500 Oh", "text/plain", "")), Server::start(|_| post()));
        let client = http(at(&[&down.url, &up.url]));
        for _ in 0..20 {
            assert_eq!(client.get(ID, Deadline::after(PLENTY)).await.unwrap(), Some(spring()));
        }
        assert!(!down.requests().is_empty(), "either may be the first");
        assert_eq!(up.requests().len(), 20);
    }

    #[tokio::test]
    async fn connections_are_reused() {
        let server = Server::start(|_| post());
        let client = http(at(&[&server.url]));
        for _ in 0..10 {
            client.get(ID, Deadline::after(PLENTY)).await.unwrap();
        }
        assert_eq!((server.requests().len(), *server.connections.lock().unwrap()), (10, 1));
    }

    #[tokio::test]
    async fn an_invalid_or_unreachable_address_is_reported() {
        for url in ["ht!tp://posts", "posts", "http://posts.example"] {
            let reason = reason(http(at(&[url])).get(ID, Deadline::after(PLENTY)).await);
            assert!(reason.contains(&format!("at {url} (instance 0): the URL must be")), "{reason}");
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let reason = reason(http(at(&[&format!("http://{free}")])).get(ID, Deadline::after(PLENTY)).await);
        assert!(reason.contains(&free.to_string()) && reason.contains("refused"), "{reason}");
    }

    #[tokio::test]
    async fn an_unknown_service_is_not_retried_but_a_failing_directory_is() {
        for (unresolved, times) in [
            (ResolveError::NotFound("Cloud Map has no service posts".to_owned()), 1),
            (ResolveError::Unavailable("Cloud Map does not answer".to_owned()), 3),
        ] {
            let directory = Arc::new(Fixed(Err(unresolved.clone()), Mutex::default()));
            let reason = reason(http(directory).get(ID, Deadline::after(PLENTY)).await);
            assert_eq!(reason, vec![unresolved.to_string(); times].join("; "));
        }
        let no_url = Instance { id: "0".to_owned(), url: None, function_arn: Some(ARN.to_owned()) };
        let directory = Arc::new(Fixed(Ok(Arc::from([no_url])), Mutex::default()));
        assert_eq!(
            reason(http(directory).get(ID, Deadline::after(PLENTY)).await),
            "no instance of posts has a URL"
        );
    }

    #[tokio::test]
    async fn by_rpc_null_means_not_found_and_a_missing_field_is_an_error() {
        let post = json!({"post": {"id": ID, "title": "Spring"}}).to_string();
        for (payload, expected) in [(post.as_str(), Some(spring())), (r#"{"post": null}"#, None)] {
            let payload = answer("200 OK", "application/json", payload);
            let server = Server::start(move |_| payload.clone());
            assert_eq!(rpc(&server).get(ID, Deadline::after(PLENTY)).await.unwrap(), expected);
        }
        for payload in ["{}", "null", "", "[]", r#"{"post": {"id": 1}}"#, r#"{"message": "hello"}"#] {
            let server = Server::start(move |_| answer("200 OK", "application/json", payload));
            let reason = reason(rpc(&server).get(ID, Deadline::after(PLENTY)).await);
            let expected = format!("Invoke {ARN} (instance 0): the output is not a post");
            assert_eq!(reason, [expected.as_str(); 3].join("; "), "{payload}");
        }
    }

    #[tokio::test]
    async fn by_rpc_a_4xx_is_not_retried_and_a_failure_is() {
        let refused = r#"{"__type": "AccessDeniedException", "Message": "not authorized"}"#;
        let server = Server::start(move |_| answer("403 Forbidden", "application/json", refused));
        let reason = reason(rpc(&server).get(ID, Deadline::after(PLENTY)).await);
        assert!(reason.contains(ARN) && reason.contains("AccessDenied"), "{reason}");
        assert_eq!(server.requests().len(), 1);

        let server = Server::start(move |number| {
            let payload = json!({"post": {"id": ID, "title": "Spring"}}).to_string();
            match number {
                0 => answer("500 Oh", "application/json", "{}"),
                1 => answer("200 OK\r\nx-amz-function-error: Unhandled", "application/json", "{}"),
                _ => answer("200 OK", "application/json", &payload),
            }
        });
        assert_eq!(rpc(&server).get(ID, Deadline::after(PLENTY)).await.unwrap(), Some(spring()));
        assert_eq!(server.requests().len(), 3);
    }
}
