//! Helpers for tests of the running system (`make up`), and the generators of `make contract`. Tests reach the system through
//! the API's URL and the AWS APIs, as a client or an operator would.
//!
//! - [`System`] is the running system, with what an operator can do,
//! - [`Person`] signs up, registers and makes requests,
//! - [`Answer`] is compared as a whole, with placeholders for values that differ each time ([`assert_json`]),
//! - [`eventually`] waits for a condition,
//! - [`shop`] lists stock, places orders, and reads the records afterwards,
//! - [`traces`] reads received traces, [`stories`] are the expected ones,
//! - [`files`] finds the repository's files, [`templates`] reads the stacks' templates,
//! - [`catalogue`] generates the schemas of the events and the document of the bus,
//! - [`compatibility`] finds incompatible changes of events, [`released`] has the released schemas,
//! - [`openapi`] generates the OpenAPI document from the services' contracts,
//! - [`generated`] lists every generated file,
//! - [`faults`] is a proxy between a function and AWS, which records calls and refuses them,
//! - [`alarms`] reads the alarms in the templates and the metrics that functions have emitted,
//! - [`turns`] keeps tests from changing what other tests are using.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test may fail this way"
)]

pub mod alarms;
pub mod catalogue;
pub mod compatibility;
pub mod faults;
pub mod files;
pub mod generated;
mod invoke;
pub mod openapi;
mod promises;
pub mod released;
pub mod shop;
mod signed;
pub mod stories;
pub mod templates;
pub mod traces;
pub mod turns;

use std::{env, fs, path::PathBuf, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cognitoidentityprovider::types::{AttributeType, AuthFlowType};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use kernel::clock::Timestamp;
use reqwest::{Method, RequestBuilder, StatusCode, Url, header::HeaderMap};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// The emulator's confirmation code for every sign-up.
const CONFIRMATION_CODE: &str = "123456";
/// The password of every test user.
pub const PASSWORD: &str = "correct horse battery staple";
/// Maximum wait for an effect. Effects take well under a second, but much longer when other tests keep the CPUs busy.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// The visibility time-out of the consumers' queues, in the templates.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(90);

/// Maximum pause of [`eventually`].
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The running system.
#[derive(Clone, Debug)]
pub struct System {
    outputs: Value,
    http: reqwest::Client,
    /// The configuration for AWS clients: the local cloud, as its root user.
    pub aws: SdkConfig,
}

impl System {
    /// Connects to the running system. The file that `make up` writes says where it is.
    pub async fn connect() -> Self {
        let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.local/outputs.json");
        let path = env::var_os("MADANG_OUTPUTS").map_or(default, PathBuf::from);
        let outputs = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}. Run `make up` first.", path.display()));
        let outputs: Value = serde_json::from_str(&outputs).expect("outputs.json");
        let credentials = aws_sdk_sqs::config::Credentials::new("test", "test", None, None, "local");
        let aws = aws_config::defaults(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(outputs["endpoint_url"].as_str().unwrap())
            .region(Region::new(outputs["region"].as_str().unwrap().to_owned()))
            .credentials_provider(credentials)
            .load()
            .await;
        let http = reqwest::Client::builder().timeout(Duration::from_mins(1)).build().unwrap();
        Self { outputs, http, aws }
    }

    /// One of the outputs of `make up`.
    pub fn output(&self, name: &str) -> &str {
        self.outputs[name].as_str().unwrap_or_else(|| panic!("no output {name}"))
    }

    /// The URL of a path of the API.
    pub fn url(&self, path: &str) -> Url {
        format!("{}{path}", self.output("api_url")).parse().expect("a URL")
    }

    /// A request without credentials.
    pub fn request(&self, method: Method, path: &str) -> Request {
        Request(self.http.request(method, format!("{}{path}", self.output("api_url"))))
    }

    /// `GET` without credentials.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path).send().await
    }

    /// Someone who has signed up and in, without a profile.
    pub async fn sign_up(&self) -> Person {
        let person = self.sign_up_unverified().await;
        person.verifies_email().await;
        person
    }

    /// Someone who has signed up and in, without a verified e-mail address.
    pub async fn sign_up_unverified(&self) -> Person {
        let cognito = aws_sdk_cognitoidentityprovider::Client::new(&self.aws);
        let email = format!("{}@example.com", Uuid::now_v7().simple());
        let client = self.output("user_pool_client_id");
        let signed_up = cognito
            .sign_up()
            .client_id(client)
            .username(&email)
            .password(PASSWORD)
            .send()
            .await
            .expect("SignUp");
        let confirm = cognito.confirm_sign_up().client_id(client).username(&email);
        confirm.confirmation_code(CONFIRMATION_CODE).send().await.expect("ConfirmSignUp");
        let mut person = Person {
            system: self.clone(),
            id: signed_up.user_sub().parse().expect("the sub is a UUID"),
            email,
            token: String::new(),
            id_token: String::new(),
        };
        person.sign_in().await.expect("InitiateAuth");
        person
    }

    /// Someone who has a profile with this name.
    pub async fn registered(&self, name: &str) -> Person {
        let person = self.sign_up().await;
        let answer = person.post("/users", &json!({"name": name})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        person
    }

    /// Puts an event on the bus by hand, as its publisher would.
    pub async fn publish(&self, event: &Value) {
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(self.output("event_bus"))
            .source(event["source"].as_str().unwrap())
            .detail_type(event["type"].as_str().unwrap())
            .detail(event.to_string())
            .build();
        let bus = aws_sdk_eventbridge::Client::new(&self.aws);
        let answer = bus.put_events().entries(entry).send().await.expect("PutEvents");
        assert_eq!(answer.failed_entry_count(), 0);
    }

    /// Sends a message directly to a consumer's queue, without the bus and its rule.
    pub async fn send(&self, queue: &str, body: &str) {
        let sqs = aws_sdk_sqs::Client::new(&self.aws);
        sqs.send_message().queue_url(self.queue(queue)).message_body(body).send().await.expect("SendMessage");
    }

    /// Takes the message whose body satisfies `wanted` out of a consumer's dead-letter queue.
    pub async fn dead_letter(&self, consumer: &str, wanted: impl Fn(&str) -> bool) -> Message {
        let sqs = aws_sdk_sqs::Client::new(&self.aws);
        let queue = self.queue(&format!("{consumer}-dead-letters"));
        eventually(&format!("the message is in {queue}"), async || {
            let received = sqs
                .receive_message()
                .queue_url(&queue)
                .max_number_of_messages(10)
                // Other messages are hidden for a second only, because other tests look for them.
                .visibility_timeout(1)
                .message_attribute_names("All")
                .send()
                .await
                .expect("ReceiveMessage");
            let mut messages = received.messages.unwrap_or_default().into_iter();
            let found = messages.find(|message| message.body().is_some_and(&wanted))?;
            let receipt = found.receipt_handle().unwrap();
            sqs.delete_message()
                .queue_url(&queue)
                .receipt_handle(receipt)
                .send()
                .await
                .expect("DeleteMessage");
            Some(found)
        })
        .await
    }

    /// The number of messages in a queue, in flight and delayed ones included.
    pub async fn depth(&self, queue: &str) -> u32 {
        let every = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        self.messages(queue, &every).await
    }

    /// Waits until a consumer's queue is empty, except for the delayed second pass of a cascade. An effect that has not
    /// happened by then will not happen.
    pub async fn wait_until_drained(&self, queue: &str) {
        let now = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        // If a function timed out, its messages are delivered again after the queue's visibility time-out.
        eventually_within(VISIBILITY_TIMEOUT + PATIENCE, &format!("{queue} is drained"), async || {
            (self.messages(queue, &now).await == 0).then_some(())
        })
        .await;
    }

    async fn messages(&self, queue: &str, names: &[QueueAttributeName]) -> u32 {
        let sqs = aws_sdk_sqs::Client::new(&self.aws);
        let request = sqs.get_queue_attributes().queue_url(self.queue(queue));
        let answer =
            request.set_attribute_names(Some(names.to_vec())).send().await.expect("GetQueueAttributes");
        let attributes = answer.attributes.unwrap_or_default();
        names.iter().map(|name| attributes[name].parse::<u32>().expect("a number of messages")).sum()
    }

    /// Invokes a step of the order saga without the state machine. Returns its answer, or its error's public name.
    pub async fn step(&self, function: &str, input: &Value) -> Result<Value, String> {
        let lambda = aws_sdk_lambda::Client::new(&self.aws);
        let payload = aws_sdk_lambda::primitives::Blob::new(input.to_string());
        let invoked = lambda.invoke().function_name(function).payload(payload).send().await.expect("Invoke");
        let answer: Value = serde_json::from_slice(invoked.payload().unwrap().as_ref()).unwrap();
        if invoked.function_error().is_none() {
            return Ok(answer);
        }
        Err(answer["errorType"].as_str().unwrap_or_else(|| panic!("no error type: {answer}")).to_owned())
    }

    /// A queue's URL, by its name.
    pub fn queue(&self, name: &str) -> String {
        let url = self.outputs["queues"][name].as_str().unwrap_or_else(|| panic!("no queue {name}"));
        url.replace("localhost", "127.0.0.1")
    }

    /// The e-mails that SES has sent to an address with this subject, as a mail client shows it. Their own `Subject` is the text of
    /// the header.
    pub async fn mails(&self, to: &str, subject: &str) -> Vec<Value> {
        let url = format!("{}/_ministack/ses/messages", self.output("endpoint_url"));
        let answer: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        let accounts = answer["messages"].as_object().unwrap().values();
        let mails = accounts.flat_map(|mails| mails.as_array().unwrap().clone());
        let shown = |header: &Value| {
            let mail = format!("Subject: {}\r\n\r\n", header.as_str().unwrap());
            mail_parser::MessageParser::default().parse(&mail).unwrap().subject().unwrap().to_owned()
        };
        let wanted = |mail: &Value| {
            shown(&mail["Subject"]) == subject
                && mail["To"].as_array().is_some_and(|all| all.contains(&json!(to)))
        };
        mails.filter(wanted).collect()
    }
}

/// Someone who has signed in.
#[derive(Clone, Debug)]
pub struct Person {
    /// The system they use.
    pub system: System,
    /// The user's id.
    pub id: Uuid,
    /// The e-mail address.
    pub email: String,
    /// The access token.
    pub token: String,
    /// The ID token, which is for the client itself: an API must refuse it.
    pub id_token: String,
}

impl Person {
    /// Signs in; an error if the user pool refuses.
    pub async fn sign_in(&mut self) -> Result<(), String> {
        let cognito = aws_sdk_cognitoidentityprovider::Client::new(&self.system.aws);
        let answer = cognito
            .initiate_auth()
            .client_id(self.system.output("user_pool_client_id"))
            .auth_flow(AuthFlowType::UserPasswordAuth)
            .auth_parameters("USERNAME", &self.email)
            .auth_parameters("PASSWORD", PASSWORD)
            .send()
            .await
            .map_err(|error| format!("{error:?}"))?;
        let tokens = answer.authentication_result.ok_or("no tokens")?;
        self.token = tokens.access_token.ok_or("no access token")?;
        self.id_token = tokens.id_token.ok_or("no ID token")?;
        Ok(())
    }

    /// Verifies the e-mail address. On AWS, confirming the sign-up does that; in the emulator it does not.
    pub async fn verifies_email(&self) {
        let cognito = aws_sdk_cognitoidentityprovider::Client::new(&self.system.aws);
        let verified = AttributeType::builder().name("email_verified").value("true").build().unwrap();
        let verify = cognito.admin_update_user_attributes().user_pool_id(self.system.output("user_pool_id"));
        let verify = verify.username(&self.email).user_attributes(verified);
        verify.send().await.expect("AdminUpdateUserAttributes");
    }

    /// Removes the login, as an operator would. Its token stays valid until it expires.
    pub async fn loses_login(&self) {
        let cognito = aws_sdk_cognitoidentityprovider::Client::new(&self.system.aws);
        let remove = cognito.admin_delete_user().user_pool_id(self.system.output("user_pool_id"));
        remove.username(&self.email).send().await.expect("AdminDeleteUser");
    }

    /// A request with this person's access token.
    pub fn request(&self, method: Method, path: &str) -> Request {
        self.system.request(method, path).header("authorization", &format!("Bearer {}", self.token))
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path).send().await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path).json(body).send().await
    }

    /// `PATCH` of a version, with a JSON body.
    pub async fn patch(&self, path: &str, version: u64, body: &Value) -> Answer {
        self.request(Method::PATCH, path).if_match(version).json(body).send().await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path).send().await
    }

    /// Creates a post and returns its id.
    pub async fn writes_post(&self, title: &str) -> Uuid {
        let key = Uuid::now_v7().to_string();
        self.creates("/posts", &key, &json!({"title": title, "body": "It rains."}), 201).await
    }

    /// Creates a post, waits until it can be commented on, and returns its id.
    pub async fn writes_commentable_post(&self, title: &str) -> Uuid {
        let post = self.writes_post(title).await;
        eventually("the post can be commented on", async || {
            (self.system.get(&format!("/posts/{post}/comments")).await.status == 200).then_some(())
        })
        .await;
        post
    }

    /// Creates a comment and returns its id.
    pub async fn comments_on(&self, post: Uuid, body: &str) -> Uuid {
        let key = Uuid::now_v7().to_string();
        self.creates(&format!("/posts/{post}/comments"), &key, &json!({"body": body}), 201).await
    }

    /// Creates something with an `Idempotency-Key` and returns its id. Repeats the request after a 503, as clients do when the
    /// system is busy.
    pub async fn creates(&self, path: &str, key: &str, body: &Value, status: u16) -> Uuid {
        eventually(&format!("{path} is answered"), async || {
            let answer = self.request(Method::POST, path).key(key).json(body).send().await;
            (answer.status != 503).then(|| {
                assert_eq!(answer.status.as_u16(), status, "{answer:?}");
                answer.id()
            })
        })
        .await
    }

    /// This person's notifications of one type, newest first.
    pub async fn notifications(&self, kind: &str) -> Vec<Value> {
        let answer = self.get("/notifications?limit=100").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let items = answer.body["items"].as_array().unwrap().iter();
        items.filter(|notification| notification["type"] == kind).cloned().collect()
    }

    /// Waits for this person's welcome, after which the notifications service has a copy of the user.
    pub async fn wait_for_welcome(&self) {
        eventually("the welcome arrives", async || self.notifications("welcome").await.pop()).await;
    }
}

/// A request under construction.
#[derive(Debug)]
pub struct Request(RequestBuilder);

impl Request {
    /// Adds a header.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    /// Adds `If-Match` with a version.
    #[must_use]
    pub fn if_match(self, version: u64) -> Self {
        self.header("if-match", &format!("\"{version}\""))
    }

    /// Adds an `Idempotency-Key`.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", &format!("\"{key}\""))
    }

    /// Adds a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    /// Adds a body as it is, with a media type.
    #[must_use]
    pub fn raw(self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self(self.0.header("content-type", media_type).body(body.into()))
    }

    /// Sends it. The test fails here if the answer is not as the API's description promises.
    pub async fn send(self) -> Answer {
        let (client, request) = self.0.build_split();
        let request = request.expect("a request");
        let (method, url) = (request.method().to_string(), request.url().clone());
        let response = client.execute(request).await.expect("the API answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.expect("the answer is complete");
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)))
        };
        let answer = Answer { url, status, headers, body };
        promises::check(&method, answer.url.path(), &answer);
        answer
    }
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The URL of the request.
    pub url: Url,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body: JSON, or text as a JSON string, or null if there is none.
    pub body: Value,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The URL in `Location`, resolved against that of the request.
    pub fn location(&self) -> Url {
        let location = self.header("location").unwrap_or_else(|| panic!("no Location in {self:?}"));
        self.url.join(location).unwrap_or_else(|error| panic!("{location}: {error}"))
    }

    /// Asserts that the answer has the tag of this version of an aggregate, alone.
    #[track_caller]
    pub fn is_version(&self, version: u64) -> &Self {
        assert_eq!(self.header("etag"), Some(format!("\"{version}\"").as_str()), "{self:?}");
        self
    }

    /// Asserts that the answer has the tag of a representation of this version, and returns the tag.
    #[track_caller]
    pub fn is_view_of(&self, version: u64) -> &str {
        let tag = self.header("etag").unwrap_or_default();
        let digest = tag.strip_prefix(&format!("\"{version}.")).and_then(|rest| rest.strip_suffix('"'));
        assert!(digest.is_some_and(|digest| digest.len() == 11), "{self:?}");
        tag
    }

    /// The id in the body.
    pub fn id(&self) -> Uuid {
        self.body["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no id in {self:?}"))
    }

    /// Asserts status and whole body ([`assert_json`]), and the media type of the body.
    #[track_caller]
    pub fn is(&self, status: u16, body: &Value) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_json(&self.body, body);
        if !body.is_null() {
            assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        }
        self
    }

    /// Asserts that the answer is a problem of a kind, by its status and the last part of its type.
    #[track_caller]
    pub fn is_problem(&self, status: u16, kind: &str) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let mut expected = json!({
            "type": format!("urn:madang:problem:{kind}"), "title": "<text>", "status": status,
            "detail": "<text>", "instance": "<text>",
        });
        if kind == "invalid" {
            expected["errors"] = self.body["errors"].clone();
            assert!(!self.invalid_fields().is_empty(), "{self:?}");
        }
        assert_json(&self.body, &expected);
        self
    }

    /// Asserts that the answer is a 422 about exactly these fields.
    #[track_caller]
    pub fn is_invalid(&self, pointers: &[&str]) -> &Self {
        self.is_problem(422, "invalid");
        assert_eq!(self.invalid_fields(), pointers, "{self:?}");
        self
    }

    fn invalid_fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array();
        errors.into_iter().flatten().filter_map(|error| error["pointer"].as_str()).collect()
    }
}

/// Asserts that two JSON values are equal. `expected` may have placeholders: `<uuid>`, `<time>` (RFC 3339 in UTC) and `<text>`
/// (not empty).
#[track_caller]
pub fn assert_json(actual: &Value, expected: &Value) {
    if let Some(difference) = difference("", actual, expected) {
        panic!("{difference}\n  actual: {actual}\nexpected: {expected}");
    }
}

fn difference(at: &str, actual: &Value, expected: &Value) -> Option<String> {
    let fits = match (actual, expected) {
        (Value::Object(have), Value::Object(want)) => {
            if let Some(name) = have.keys().find(|name| !want.contains_key(*name)) {
                return Some(format!("{at}/{name} is not expected"));
            }
            return want.iter().find_map(|(name, value)| {
                let Some(found) = have.get(name) else { return Some(format!("{at}/{name} is missing")) };
                difference(&format!("{at}/{name}"), found, value)
            });
        }
        (Value::Array(have), Value::Array(want)) if have.len() == want.len() => {
            let mut pairs = have.iter().zip(want).enumerate();
            return pairs.find_map(|(index, (have, want))| difference(&format!("{at}/{index}"), have, want));
        }
        (Value::String(text), Value::String(want)) => match want.as_str() {
            "<uuid>" => text.parse::<Uuid>().is_ok(),
            "<time>" => text.ends_with('Z') && Timestamp::try_from(text.clone()).is_ok(),
            "<text>" => !text.is_empty(),
            _ => text == want,
        },
        _ => actual == expected,
    };
    (!fits).then(|| format!("{at} is {actual} instead of {expected}"))
}

/// Waits for a condition: calls `probe` until it returns something, and fails the test with `what` if that takes too long. The
/// pauses between calls grow, because the local cloud handles all calls on one core, which other tests need.
pub async fn eventually<T>(what: &str, probe: impl AsyncFn() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, probe).await
}

/// Like [`eventually`], with another maximum wait.
async fn eventually_within<T>(patience: Duration, what: &str, probe: impl AsyncFn() -> Option<T>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(25);
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < patience, "not within {} s: {what}", patience.as_secs());
        sleep(pause).await;
        pause = (pause * 3 / 2).min(MAX_PAUSE);
    }
}
