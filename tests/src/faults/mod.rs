//! A proxy between a function and AWS, which records the function's calls, and refuses, swallows or leaves without an answer
//! those that a test selects.
//!
//! The function is a copy, deployed beside the real one with the same code, role and time-out. `AWS_ENDPOINT_URL_<SERVICE>`
//! directs its AWS client to the proxy. The function's code does not know of it.

mod proxy;
pub mod retries;

use std::{
    collections::HashMap,
    fs,
    hash::BuildHasher,
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    sync::{LazyLock, Mutex},
};

use aws_credential_types::Credentials;
use aws_sdk_lambda::{
    primitives::Blob,
    types::{Environment, FunctionCode, LogType, Runtime},
};
use aws_sdk_sqs::types::QueueAttributeName;
use futures::FutureExt;
use kernel::clock::Timestamp;
use md5::{Digest, Md5};
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use uuid::Uuid;

pub use self::proxy::{Call, Fate, Proxy, Refusal};
use crate::{Answer, System, eventually};

/// The bucket to which `make up` uploads the functions.
const ARTIFACTS: &str = "madang-artifacts";

/// The AWS services that functions call, as in `AWS_ENDPOINT_URL_<SERVICE>`.
pub const SERVICES: [&str; 9] = [
    "DYNAMODB",
    "EVENTBRIDGE",
    "SQS",
    "SESV2",
    "SFN",
    "COGNITO_IDENTITY_PROVIDER",
    "LAMBDA",
    "SERVICEDISCOVERY",
    "SECRETS_MANAGER",
];

/// How a copy of a function differs from the real one.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Variables added to its environment.
    pub variables: HashMap<String, String>,
    /// The function whose role it gets, if not its own.
    pub role_of: Option<&'static str>,
}

impl Changes {
    /// Directs one AWS client to a proxy, by the service's name in `AWS_ENDPOINT_URL_<SERVICE>`.
    pub fn endpoint(service: &str, proxy: &Proxy) -> Self {
        let variables = HashMap::from([(format!("AWS_ENDPOINT_URL_{service}"), proxy.url.clone())]);
        Self { variables, role_of: None }
    }

    /// Directs every AWS client to a proxy.
    pub fn endpoints(proxy: &Proxy) -> Self {
        let endpoint = |service: &str| (format!("AWS_ENDPOINT_URL_{service}"), proxy.url.clone());
        Self { variables: SERVICES.map(endpoint).into(), role_of: None }
    }

    /// Adds a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A copy of a function.
pub struct Copy {
    name: String,
    lambda: aws_sdk_lambda::Client,
}

/// The answer and the log of an invocation of a copy.
#[derive(Debug)]
pub struct Invoked {
    /// The answer.
    pub answer: Value,
    /// The end of its log.
    pub log: String,
}

impl Invoked {
    /// The HTTP answer, as API Gateway would send it.
    pub fn http(&self) -> Answer {
        let status = self.answer["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
        let status = status.unwrap_or_else(|| panic!("no HTTP answer: {self:?}"));
        let header = |(name, value): (&String, &Value)| {
            let value = HeaderValue::from_str(value.as_str()?).ok()?;
            Some((name.parse::<HeaderName>().ok()?, value))
        };
        let headers: HeaderMap =
            self.answer["headers"].as_object().into_iter().flatten().filter_map(header).collect();
        let body = serde_json::from_str(self.answer["body"].as_str().unwrap_or("null")).unwrap();
        // Functions do not know the URL of a request.
        let url = "http://function.invalid/".parse().unwrap();
        Answer { url, status: StatusCode::from_u16(status).unwrap(), headers, body }
    }
}

impl Copy {
    /// Invokes the copy.
    pub async fn invoke(&self, event: &Value) -> Invoked {
        let (error, invoked) = self.run(event).await;
        assert_eq!(error, None, "{invoked:?}");
        invoked
    }

    /// Invokes the copy in the trace of this `X-Amzn-Trace-Id`, as a caller of Lambda's API does.
    pub async fn invoke_in_trace(&self, event: &Value, trace: &str) -> Invoked {
        let (error, invoked) = self.run_in_trace(event, Some(trace.to_owned())).await;
        assert_eq!(error, None, "{invoked:?}");
        invoked
    }

    /// Invokes the copy, which must fail, and returns its error.
    pub async fn fails(&self, event: &Value) -> Invoked {
        let (error, invoked) = self.run(event).await;
        assert!(error.is_some(), "{invoked:?}");
        invoked
    }

    /// Invokes the copy, which may fail: `Err` if it does.
    pub async fn outcome(&self, event: &Value) -> Result<Invoked, Invoked> {
        let (error, invoked) = self.run(event).await;
        if error.is_some() { Err(invoked) } else { Ok(invoked) }
    }

    async fn run(&self, event: &Value) -> (Option<String>, Invoked) {
        self.run_in_trace(event, None).await
    }

    async fn run_in_trace(&self, event: &Value, trace: Option<String>) -> (Option<String>, Invoked) {
        let invoked = self
            .lambda
            .invoke()
            .function_name(&self.name)
            .payload(Blob::new(event.to_string()))
            .log_type(LogType::Tail)
            .customize()
            .mutate_request(move |request| {
                if let Some(trace) = trace.clone() {
                    request.headers_mut().insert("x-amzn-trace-id", trace);
                }
            })
            .send()
            .await
            .expect("Invoke");
        let log = invoked.log_result().map(decoded).unwrap_or_default();
        let answer = serde_json::from_slice(invoked.payload().unwrap().as_ref()).unwrap();
        (invoked.function_error, Invoked { answer, log })
    }
}

fn decoded(base64: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    String::from_utf8_lossy(&STANDARD.decode(base64).unwrap_or_default()).into_owned()
}

/// Deploys a copy of a function while `test` runs, and removes it even if the test fails.
pub async fn with_copy(system: &System, function: &str, changes: Changes, test: impl AsyncFnOnce(&Copy)) {
    let lambda = aws_sdk_lambda::Client::new(&system.aws);
    let configuration = async |name: &str| {
        lambda
            .get_function_configuration()
            .function_name(name)
            .send()
            .await
            .expect("GetFunctionConfiguration")
    };
    let real = configuration(function).await;
    let role = match changes.role_of {
        Some(other) => configuration(other).await.role,
        None => real.role,
    };
    let mut variables = real.environment.and_then(|environment| environment.variables).unwrap_or_default();
    variables.extend(changes.variables);
    let name = format!("{function}-{}", Uuid::now_v7().simple());
    let create = lambda
        .create_function()
        .function_name(&name)
        .runtime(Runtime::Providedal2023)
        .handler("bootstrap")
        .set_role(role)
        .set_timeout(real.timeout)
        .environment(Environment::builder().set_variables(Some(variables)).build())
        .code(code(function));
    create.send().await.expect("CreateFunction");
    let copy = Copy { name, lambda: lambda.clone() };
    finally(Box::pin(test(&copy)), async {
        lambda.delete_function().function_name(&copy.name).send().await.expect("DeleteFunction");
    })
    .await;
}

/// A function's artifact, as `make up` has uploaded it: `sam deploy` names uploads by their MD5. Uploading it again would
/// block the local cloud, because it is megabytes in one request.
fn code(function: &str) -> FunctionCode {
    static KEYS: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
    let bin = if function.ends_with("-relay") { "relay" } else { function };
    let mut keys = KEYS.lock().unwrap();
    let key = keys.entry(bin.to_owned()).or_insert_with(|| {
        let artifact = root().join(format!("target/lambda/{bin}/bootstrap.zip"));
        hex::encode(Md5::digest(fs::read(artifact).expect("the artifact of make up")))
    });
    FunctionCode::builder().s3_bucket(ARTIFACTS).s3_key(key.as_str()).build()
}

/// Runs a test and then restores what it changed, even if the test fails. Returns what the test returns.
pub async fn finally<T>(test: impl Future<Output = T>, restore: impl Future<Output = ()>) -> T {
    let result = AssertUnwindSafe(test).catch_unwind().await;
    restore.await;
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Directs a real function's client to a proxy while `test` runs, and restores it even if the test fails.
pub async fn with_endpoint<T>(
    system: &System,
    function: &str,
    service: &str,
    proxy: &Proxy,
    test: impl AsyncFnOnce() -> T,
) -> T {
    let changes = Changes::endpoint(service, proxy);
    with_variables(system, &[function], &changes.variables, test).await
}

/// Adds variables to the environment of real functions while `test` runs, and removes them even if the test fails.
pub async fn with_variables<T, S: BuildHasher>(
    system: &System,
    functions: &[&str],
    variables: &HashMap<String, String, S>,
    test: impl AsyncFnOnce() -> T,
) -> T {
    let before = change_variables(system, functions, variables).await;
    finally(Box::pin(test()), Box::pin(restore_variables(system, before))).await
}

/// The environments of functions, by their names.
pub type Environments = Vec<(String, HashMap<String, String>)>;

/// Adds variables to the environment of real functions. Returns their previous environments.
pub async fn change_variables<S: BuildHasher>(
    system: &System,
    functions: &[&str],
    variables: &HashMap<String, String, S>,
) -> Environments {
    let lambda = aws_sdk_lambda::Client::new(&system.aws);
    let mut environments = Vec::new();
    for function in functions {
        let configuration = lambda.get_function_configuration().function_name(*function).send().await;
        let environment = configuration.expect("GetFunctionConfiguration").environment;
        let before = environment.and_then(|environment| environment.variables).unwrap_or_default();
        let mut with = before.clone();
        with.extend(variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        set_environment(&lambda, function, with).await;
        environments.push(((*function).to_owned(), before));
    }
    environments
}

/// Restores the environments of functions.
pub async fn restore_variables(system: &System, before: Environments) {
    let lambda = aws_sdk_lambda::Client::new(&system.aws);
    for (function, variables) in before {
        set_environment(&lambda, &function, variables).await;
    }
}

async fn set_environment(
    lambda: &aws_sdk_lambda::Client,
    function: &str,
    variables: HashMap<String, String>,
) {
    let environment = Environment::builder().set_variables(Some(variables)).build();
    let update = lambda.update_function_configuration().function_name(function).environment(environment);
    update.send().await.expect("UpdateFunctionConfiguration");
}

/// Shortens a queue's visibility time-out while `test` runs, so that the test need not wait for it.
pub async fn with_visibility_timeout(system: &System, queue: &str, seconds: u32, test: impl AsyncFnOnce()) {
    let sqs = aws_sdk_sqs::Client::new(&system.aws);
    let url = system.queue(queue);
    let name = QueueAttributeName::VisibilityTimeout;
    let before = sqs.get_queue_attributes().queue_url(&url).attribute_names(name.clone()).send().await;
    let before = before.expect("GetQueueAttributes").attributes.unwrap()[&name].clone();
    let set = async |value: String| {
        let request = sqs.set_queue_attributes().queue_url(&url).attributes(name.clone(), value);
        request.send().await.expect("SetQueueAttributes");
    };
    set(seconds.to_string()).await;
    finally(Box::pin(test()), Box::pin(set(before))).await;
}

/// The bodies of the messages in a dead-letter queue.
pub async fn dead_letters(system: &System, function: &str) -> Vec<String> {
    let sqs = aws_sdk_sqs::Client::new(&system.aws);
    let request = sqs.receive_message().queue_url(system.queue(&format!("{function}-dead-letters")));
    let received = request.max_number_of_messages(10).visibility_timeout(0).send().await;
    let messages = received.expect("ReceiveMessage").messages.unwrap_or_default();
    messages.into_iter().filter_map(|message| message.body).collect()
}

/// When the events of the sample inputs were made.
const TIME_OF_SAMPLES: &str = "2026-05-04T09:30:00.123456Z";

/// A function's sample input from `events/invoke/`, which a test may adapt. Its events are from now, because consumers refuse events
/// that are older than a month.
pub fn input(function: &str) -> Value {
    let path = root().join(format!("events/invoke/{function}.json"));
    let input = fs::read_to_string(path).expect("events/invoke");
    serde_json::from_str(&input.replace(TIME_OF_SAMPLES, &Timestamp::now().to_string())).unwrap()
}

/// The sample input of an HTTP function as a request of this caller for this path.
pub fn http_input(function: &str, caller: Uuid, path: &str, parameters: &Value) -> Value {
    let mut input = input(function);
    let values = parameters.as_object().into_iter().flatten();
    let route = values.fold(path.to_owned(), |route, (name, value)| {
        route.replace(value.as_str().unwrap(), &format!("{{{name}}}"))
    });
    let method = input["requestContext"]["http"]["method"].as_str().unwrap();
    let key = json!(format!("{method} {route}"));
    (input["routeKey"], input["requestContext"]["routeKey"]) = (key.clone(), key);
    input["rawPath"] = json!(path);
    input["requestContext"]["http"]["path"] = json!(path);
    input["pathParameters"] = parameters.clone();
    // Principals and the provider have no token.
    if !input["requestContext"]["authorizer"]["jwt"].is_null() {
        let claims = &mut input["requestContext"]["authorizer"]["jwt"]["claims"];
        claims["sub"] = json!(caller);
        claims["username"] = json!(caller);
    }
    input
}

/// An event as its publisher puts it on the bus.
pub fn event(event_type: &str, subject: Uuid, sequence: u64, data: &Value) -> Value {
    let source = format!("madang.{}s", event_type.split('.').next().unwrap());
    json!({
        "specversion": "1.0", "id": Uuid::now_v7(), "source": source, "type": event_type, "subject": subject,
        "time": Timestamp::now(), "sequence": sequence, "schemaversion": 1, "data": data,
    })
}

/// An event as the bus sends it to a queue.
pub fn on_the_bus(event: &Value) -> Value {
    json!({
        "version": "0", "id": Uuid::now_v7(), "detail-type": event["type"], "source": event["source"],
        "account": "000000000000", "time": Timestamp::now(), "region": "us-east-1", "resources": [], "detail": event,
    })
}

/// A batch of new messages with these events, as a consumer's queue delivers them. The id of each message is its event's, and
/// no queue has such a message.
pub fn batch(consumer: &str, events: &[Value]) -> Value {
    let template = input(consumer)["Records"][0].clone();
    let records = events.iter().map(|event| {
        let mut record = template.clone();
        record["messageId"] = event["id"].clone();
        record["body"] = json!(on_the_bus(event).to_string());
        // An old message that fails is given up.
        record["attributes"]["SentTimestamp"] = json!((Timestamp::now().as_second() * 1000).to_string());
        record
    });
    json!({"Records": records.collect::<Vec<_>>()})
}

/// The ids of the messages or records that a function has reported as failed.
pub fn reported(answer: &Value) -> Vec<String> {
    let failures =
        answer["batchItemFailures"].as_array().unwrap_or_else(|| panic!("not a batch's answer: {answer}"));
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().expect("an id").to_owned()).collect()
}

/// The lines of a log that are JSON objects.
pub fn lines(log: &str) -> Vec<Value> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}

/// The processes of a function that run on this machine.
pub fn processes(function: &str) -> Vec<u32> {
    let wanted = format!("AWS_LAMBDA_FUNCTION_NAME={function}");
    let folders = fs::read_dir("/proc").expect("/proc").flatten();
    let ids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    })
    .collect()
}

/// The credentials of a function's role, from the environment of its process. The function must have been invoked before.
pub async fn credentials(function: &str) -> Credentials {
    let id = eventually(&format!("{function} runs"), async || processes(function).pop()).await;
    let environment = fs::read(format!("/proc/{id}/environ")).expect("its environment");
    let variables: HashMap<String, String> = String::from_utf8_lossy(&environment)
        .split('\0')
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let of = |name: &str| variables.get(name).cloned();
    let (id, secret) =
        (of("AWS_ACCESS_KEY_ID").expect("a key"), of("AWS_SECRET_ACCESS_KEY").expect("a secret"));
    Credentials::new(id, secret, of("AWS_SESSION_TOKEN"), None, "role")
}

/// Crashes a function: waits until it has processes, kills them, and returns their number.
pub async fn kill(function: &str) -> usize {
    let killed = eventually(&format!("{function} runs"), async || {
        let ids = processes(function);
        (!ids.is_empty()).then_some(ids)
    })
    .await;
    for id in &killed {
        // One signal is not worth a crate. `kill` is built into the shell, and not a program on every machine.
        let status =
            std::process::Command::new("sh").args(["-c", "kill -9 $1", "sh", &id.to_string()]).status();
        assert!(
            status.is_ok_and(|status| status.success()) || !processes(function).contains(id),
            "kill -9 {id}"
        );
    }
    killed.len()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
