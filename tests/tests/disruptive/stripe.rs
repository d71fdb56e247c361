//! Orders that are paid through Stripe's API, which localstripe (`PyPI`) simulates on this machine.
//!
//! The functions of payments call localstripe through a proxy. The proxy implements `Idempotency-Key`, which localstripe
//! lacks. It also records the requests, and loses or delays answers as a test wants.
//!
//! While such a test runs, every order is paid there. Therefore these tests run one at a time, and never beside a test that
//! needs the functions of payments.

use std::{
    collections::HashMap,
    fs::{self, File},
    future::pending,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex as Cell},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    response::Response,
};
use futures::future::join_all;
use hmac::{Hmac, KeyInit, Mac};
use kernel::clock::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use system_tests::{
    Answer, Person, System, eventually,
    faults::{finally, with_variables},
    shop::{CARD, OrderRecords, new_sku, shop, usd, wait_until_settled},
    turns::turn,
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, Notify},
    task::JoinHandle,
};
use uuid::Uuid;

/// The functions that call the provider.
const FUNCTIONS: [&str; 4] =
    ["payments-authorize", "payments-capture", "payments-cancel", "payments-webhook"];
const SECRET: &str = "madang/stripe";
const SECRET_KEY: &str = "sk_test_of_the_systems_tests";
const WEBHOOK_SECRET: &str = "whsec_of_the_systems_tests";
/// The card that localstripe declines when it is charged.
const DECLINED: &str = "pm_card_chargeCustomerFail";

/// Serves localstripe at a free port and prints the port. It stores nothing on the disk. It exits when its input ends, so that
/// it never outlives the test.
const LAUNCHER: &str = r#"
import os, socket, sys, threading
from aiohttp import web
from localstripe import resources, server
resources.Store.dump_to_disk = lambda store: None
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
web.run_app(server.app, sock=listener, print=None)
"#;

/// A running localstripe without any payments.
struct Localstripe {
    process: Child,
    // Kept open, because a process that prints to a closed pipe dies.
    _output: BufReader<ChildStdout>,
    url: String,
}

impl Drop for Localstripe {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Localstripe {
    fn start() -> Self {
        let python = root().join(".local/localstripe/bin/python");
        assert!(python.exists(), "localstripe is missing: run infra/local/bootstrap test");
        let log = root().join(".local/localstripe/localstripe.log");
        let mut process = Command::new(python)
            .args(["-c", LAUNCHER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("localstripe starts");
        let mut output = BufReader::new(process.stdout.take().expect("its output"));
        let mut port = String::new();
        output.read_line(&mut port).expect("a port");
        let port = port.trim();
        assert!(!port.is_empty(), "localstripe does not start: {}", fs::read_to_string(log).unwrap());
        Self { process, _output: output, url: format!("http://127.0.0.1:{port}") }
    }
}

/// What the proxy does with an answer.
enum Plan {
    /// Never passes it on.
    Lose,
    /// Passes it on when the test says so.
    HoldBack(Arc<Held>),
}

/// An answer that is held back.
#[derive(Default)]
struct Held {
    /// The answer has arrived.
    arrived: Notify,
    /// The test releases the answer.
    released: Notify,
}

/// An answer of localstripe: status and body.
#[derive(Clone)]
struct Reply(StatusCode, Vec<u8>);

struct StripeProxy {
    upstream: String,
    http: reqwest::Client,
    requests: Cell<Vec<String>>,
    plans: Cell<Vec<(&'static str, Plan)>>,
    remembered: Mutex<HashMap<String, Reply>>,
}

impl StripeProxy {
    async fn ask(&self, request: reqwest::Request) -> Reply {
        let answer = self.http.execute(request).await.expect("localstripe answers");
        Reply(answer.status(), answer.bytes().await.unwrap().to_vec())
    }
}

async fn forward(State(proxy): State<Arc<StripeProxy>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let path = head.uri.path();
    let what = path.rsplit('/').next().unwrap_or_default().to_owned();
    proxy.requests.lock().unwrap().push(format!("{} {what}", head.method));
    let key = head.headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let url = format!("{}{}", proxy.upstream, head.uri);
    let request = proxy.http.request(head.method, url).headers(head.headers).body(body).build().unwrap();
    let reply = match key {
        Some(key) => {
            let mut remembered = proxy.remembered.lock().await;
            if let Some(reply) = remembered.get(&key) {
                reply.clone()
            } else {
                let reply = proxy.ask(request).await;
                remembered.insert(key, reply.clone());
                reply
            }
        }
        None => proxy.ask(request).await,
    };
    let plan = {
        let mut plans = proxy.plans.lock().unwrap();
        plans.iter().position(|(planned, _)| *planned == what).map(|place| plans.remove(place).1)
    };
    match plan {
        Some(Plan::Lose) => pending().await,
        Some(Plan::HoldBack(held)) => {
            held.arrived.notify_one();
            held.released.notified().await;
        }
        None => {}
    }
    let Reply(status, body) = reply;
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Body::from(body)).unwrap()
}

/// The simulated Stripe of a test: localstripe behind the proxy.
struct Stripe {
    system: System,
    localstripe: Localstripe,
    proxy: Arc<StripeProxy>,
    url: String,
    server: JoinHandle<()>,
}

impl Drop for Stripe {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stripe {
    async fn start(system: &System) -> Self {
        let localstripe = Localstripe::start();
        let proxy = Arc::new(StripeProxy {
            upstream: localstripe.url.clone(),
            http: reqwest::Client::new(),
            requests: Cell::default(),
            plans: Cell::default(),
            remembered: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(forward).with_state(Arc::clone(&proxy));
        let server = tokio::spawn(async { axum::serve(listener, router).await.expect("the proxy serves") });
        Self { system: system.clone(), localstripe, proxy, url, server }
    }

    /// The requests since the last call of this: the method and the last part of the path of each.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.proxy.requests.lock().unwrap())
    }

    /// Loses the answer to the next request whose path ends with this.
    fn lose(&self, what: &'static str) {
        self.proxy.plans.lock().unwrap().push((what, Plan::Lose));
    }

    /// Holds back the answer to the next request whose path ends with this.
    fn hold_back(&self, what: &'static str) -> Arc<Held> {
        let held = Arc::new(Held::default());
        self.proxy.plans.lock().unwrap().push((what, Plan::HoldBack(Arc::clone(&held))));
        held
    }

    /// Calls localstripe directly, as the owner of the account.
    async fn call(&self, method: Method, path: &str, form: &[(&str, &str)]) -> Value {
        let url = format!("{}{path}", self.localstripe.url);
        let request = self.proxy.http.request(method, url).bearer_auth(SECRET_KEY).form(form);
        let answer = request.send().await.expect("localstripe answers");
        assert_eq!(answer.status(), 200, "{path}");
        let body = answer.bytes().await.unwrap();
        serde_json::from_slice(&body).unwrap_or_default()
    }

    /// The intents of an order.
    async fn intents(&self, order: Uuid) -> Vec<Value> {
        let all = self.call(Method::GET, "/v1/payment_intents?limit=100", &[]).await;
        let all = all["data"].as_array().unwrap().iter();
        all.filter(|intent| intent["metadata"]["order_id"] == json!(order)).cloned().collect()
    }

    /// The id and the state of an order's only intent: its status, and its charge if there is one.
    async fn intent(&self, order: Uuid) -> (String, Value) {
        let intents = self.intents(order).await;
        let [intent] = intents.as_slice() else { panic!("expected one intent: {intents:?}") };
        assert_eq!((&intent["capture_method"], &intent["currency"]), (&json!("manual"), &json!("usd")));
        let charge = &intent["latest_charge"];
        let status = &intent["status"];
        let state = if charge.is_null() {
            json!([status])
        } else {
            json!([status, charge["status"], charge["captured"], charge["amount"], charge["amount_refunded"]])
        };
        (intent["id"].as_str().unwrap().to_owned(), state)
    }

    /// Sends a webhook to the API with a signature.
    async fn webhook(&self, body: &str, signature: &str) -> Answer {
        let request = self.system.request(Method::POST, "/payments/webhook");
        request.header("stripe-signature", signature).raw("application/json", body).send().await
    }
}

/// The signature of a body, made this many seconds from now.
fn signature(secret: &str, seconds_from_now: i64, body: &str) -> String {
    let time = Timestamp::now().as_second() + seconds_from_now;
    let mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(format!("{time}.{body}"));
    format!("t={time},v1={:x}", Bytes::copy_from_slice(&mac.finalize().into_bytes()))
}

/// Runs a test while orders are paid at a Stripe of its own. Afterwards they are paid at the sandbox again, even if it fails.
async fn with_stripe(test: impl AsyncFnOnce(&Stripe)) {
    let system = System::connect().await;
    // Started before the turn begins, to save time.
    let stripe = Stripe::start(&system).await;
    let _turn = turn(&FUNCTIONS, &[]).await;
    let variables = HashMap::from([
        ("PAYMENT_PROVIDER".to_owned(), "stripe".to_owned()),
        ("STRIPE_API_URL".to_owned(), stripe.url.clone()),
    ]);
    with_secret(&system, async || {
        with_variables(&system, &FUNCTIONS, &variables, async || test(&stripe).await).await;
    })
    .await;
}

/// Stores the keys as the functions' secret while `test` runs, and restores the secret even if the test fails.
async fn with_secret(system: &System, test: impl AsyncFnOnce()) {
    let client = aws_sdk_secretsmanager::Client::new(&system.aws);
    let keys = json!({"secret_key": SECRET_KEY, "webhook_secret": WEBHOOK_SECRET}).to_string();
    let before = client.get_secret_value().secret_id(SECRET).send().await.ok();
    if before.is_some() {
        client.put_secret_value().secret_id(SECRET).secret_string(keys).send().await.expect("PutSecretValue");
    } else {
        client.create_secret().name(SECRET).secret_string(keys).send().await.expect("CreateSecret");
    }
    let restore = async {
        if let Some(before) = before.and_then(|before| before.secret_string) {
            let put = client.put_secret_value().secret_id(SECRET).secret_string(before);
            put.send().await.expect("PutSecretValue");
        } else {
            let delete = client.delete_secret().secret_id(SECRET).force_delete_without_recovery(true);
            delete.send().await.expect("DeleteSecret");
        }
    };
    finally(Box::pin(test()), Box::pin(restore)).await;
}

/// Waits until an order of two items is settled. Asserts the statuses of the order, its reservation and its payment in their
/// tables, and how many items are left.
async fn assert_settled(system: &System, order: Uuid, sku: &str, statuses: [&str; 3], left: u64) {
    wait_until_settled(system, &[order]).await;
    let records = OrderRecords::read(system, order).await;
    assert_eq!([records.order.as_str(), &records.reservation, &records.payment], statuses);
    assert_eq!(records.provider, "none", "the sandbox has a payment");
    let stock = system.stock(sku).await;
    let counts = (&stock["on_hand"], &stock["reserved"], &stock["available"]);
    assert_eq!(counts, (&json!(left), &json!(0), &json!(left)));
}

/// The whole payment of an order of two items.
fn payment(order: Uuid, status: &str, reference: &str) -> Value {
    json!({
        "order_id": order, "status": status, "amount": usd(900), "provider": "stripe",
        "provider_reference": reference, "created_at": "<time>",
    })
}

/// Invokes a step for an order of this buyer.
async fn step(buyer: &Person, function: &str, order: Uuid) -> Result<Value, String> {
    let input = json!({"order_id": order, "buyer_id": buyer.id, "amount": usd(900), "payment_method": CARD,
                       "traceparent": null});
    buyer.system.step(function, &input).await
}

/// Invokes a step five times concurrently. Each invocation succeeds.
async fn five_times(buyer: &Person, function: &str, order: Uuid) {
    for answer in join_all((0..5).map(|_| step(buyer, function, order))).await {
        assert_eq!(answer, Ok(json!({})), "{function}");
    }
}

#[tokio::test]
async fn the_money_of_a_confirmed_order_is_first_held_then_captured_at_stripe() {
    with_stripe(async |stripe| {
        let system = &stripe.system;
        let (buyer, sku) = shop(system, 5).await;
        let order = buyer.orders(&sku, 2, CARD).await;
        assert_eq!(buyer.wait_until_decided(order).await.body["status"], "CONFIRMED");
        assert_settled(system, order, &sku, ["CONFIRMED", "COMMITTED", "CAPTURED"], 3).await;

        let (intent, state) = stripe.intent(order).await;
        assert_eq!(state, json!(["succeeded", "succeeded", true, 900, 0]));
        assert_eq!(stripe.requests(), ["POST payment_intents", "POST confirm", "POST capture"]);
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "CAPTURED", &intent));
        for function in FUNCTIONS {
            assert_eq!(system.log_lines(function, SECRET_KEY).await, Vec::<Value>::new(), "{function}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_order_with_a_declined_card_is_compensated_and_no_money_is_held_at_stripe() {
    with_stripe(async |stripe| {
        let system = &stripe.system;
        let (buyer, sku) = shop(system, 5).await;
        let order = buyer.orders(&sku, 2, DECLINED).await;
        let rejected = buyer.wait_until_decided(order).await;
        assert_eq!(rejected.body["reason"], "payment_declined");
        assert_settled(system, order, &sku, ["REJECTED", "RELEASED", "DECLINED"], 5).await;

        let (intent, state) = stripe.intent(order).await;
        assert_eq!(state, json!(["canceled", "failed", false, 900, 0]));
        assert_eq!(stripe.requests(), ["POST payment_intents", "POST confirm", "POST cancel"]);
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "DECLINED", &intent));
    })
    .await;
}

#[tokio::test]
async fn cancelling_an_order_releases_the_money_held_at_stripe() {
    with_stripe(async |stripe| {
        let system = &stripe.system;
        let (buyer, sku) = shop(system, 5).await;
        let held = stripe.hold_back("confirm");
        let order = buyer.orders(&sku, 2, CARD).await;
        held.arrived.notified().await;
        let (intent, state) = stripe.intent(order).await;
        assert_eq!(state, json!(["requires_capture", "succeeded", false, 900, 0]));
        let cancelled = buyer.post(&format!("/orders/{order}/cancel"), &json!({})).await;
        assert_eq!(cancelled.status, 202, "{cancelled:?}");
        held.released.notify_one();

        assert_settled(system, order, &sku, ["CANCELLED", "RELEASED", "CANCELLED"], 5).await;
        let voided = json!(["canceled", "succeeded", false, 900, 0]);
        assert_eq!(stripe.intent(order).await, (intent.clone(), voided));
        assert_eq!(stripe.requests(), ["POST payment_intents", "POST confirm", "POST cancel"]);
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "CANCELLED", &intent));
    })
    .await;
}

#[tokio::test]
async fn captured_money_is_refunded_once() {
    with_stripe(async |stripe| {
        let (buyer, sku) = shop(&stripe.system, 5).await;
        let order = buyer.orders(&sku, 2, CARD).await;
        wait_until_settled(&stripe.system, &[order]).await;
        stripe.requests();
        for _ in 0..2 {
            assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
        }
        let (intent, state) = stripe.intent(order).await;
        assert_eq!(state, json!(["succeeded", "succeeded", true, 900, 900]));
        assert_eq!(stripe.requests(), ["POST cancel", &format!("GET {intent}"), "POST refunds"]);
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "REFUNDED", &intent));
    })
    .await;
}

#[tokio::test]
async fn a_step_that_runs_five_times_concurrently_moves_the_money_once() {
    with_stripe(async |stripe| {
        let buyer = stripe.system.registered("Ara").await;
        let order = Uuid::now_v7();
        five_times(&buyer, "payments-authorize", order).await;
        assert_eq!(stripe.intent(order).await.1, json!(["requires_capture", "succeeded", false, 900, 0]));
        five_times(&buyer, "payments-capture", order).await;
        assert_eq!(stripe.intent(order).await.1, json!(["succeeded", "succeeded", true, 900, 0]));
        five_times(&buyer, "payments-cancel", order).await;
        assert_eq!(stripe.intent(order).await.1, json!(["succeeded", "succeeded", true, 900, 900]));

        stripe.requests();
        five_times(&buyer, "payments-cancel", order).await;
        assert_eq!(step(&buyer, "payments-authorize", order).await, Err("Order.Cancelled".to_owned()));
        assert_eq!(stripe.requests(), Vec::<String>::new(), "a finished step calls Stripe again");
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_answer_is_lost_is_retried_and_the_money_moves_once() {
    with_stripe(async |stripe| {
        let system = &stripe.system;
        let (buyer, sku) = shop(system, 5).await;
        for what in ["payment_intents", "confirm", "capture"] {
            stripe.lose(what);
        }
        let order = buyer.orders(&sku, 2, CARD).await;
        assert_eq!(buyer.wait_until_decided(order).await.body["status"], "CONFIRMED");
        assert_settled(system, order, &sku, ["CONFIRMED", "COMMITTED", "CAPTURED"], 3).await;
        let (intent, state) = stripe.intent(order).await;
        assert_eq!(state, json!(["succeeded", "succeeded", true, 900, 0]));
        // Stripe refuses to confirm or capture twice. Then the function reads the state of the intent.
        let lookup = format!("GET {intent}");
        let expected = [
            "POST payment_intents",
            "POST payment_intents",
            "POST confirm",
            "POST confirm",
            &lookup,
            "POST capture",
            "POST capture",
            &lookup,
        ];
        assert_eq!(stripe.requests(), expected);

        stripe.lose("refunds");
        assert_eq!(step(&buyer, "payments-cancel", order).await, Err("Unavailable".to_owned()));
        assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
        assert_eq!(stripe.intent(order).await.1, json!(["succeeded", "succeeded", true, 900, 900]));

        let order = Uuid::now_v7();
        stripe.lose("cancel");
        assert_eq!(step(&buyer, "payments-authorize", order).await, Ok(json!({})));
        assert_eq!(step(&buyer, "payments-cancel", order).await, Err("Unavailable".to_owned()));
        assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
        let (intent, state) = stripe.intent(order).await;
        assert_eq!(state, json!(["canceled", "succeeded", false, 900, 0]));
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "CANCELLED", &intent));
    })
    .await;
}

/// The event that Stripe sends after a charge was refunded.
fn charge_refunded(event: &str, order: Uuid, intent: &str) -> String {
    let charge = json!({"id": "ch_1", "object": "charge", "payment_intent": intent, "refunded": true,
                        "metadata": {"order_id": order}});
    json!({"id": event, "object": "event", "type": "charge.refunded", "data": {"object": charge}}).to_string()
}

#[tokio::test]
async fn a_webhook_makes_payments_ask_stripe_and_is_handled_once() {
    with_stripe(async |stripe| {
        let buyer = stripe.system.registered("Ara").await;
        let order = Uuid::now_v7();
        step(&buyer, "payments-authorize", order).await.unwrap();
        step(&buyer, "payments-capture", order).await.unwrap();
        let (intent, _) = stripe.intent(order).await;
        let path = format!("/orders/{order}/payment");
        let body = charge_refunded(&new_sku("evt"), order, &intent);
        let signed = |body: &str| signature(WEBHOOK_SECRET, 0, body);
        let received = json!({"received": true});
        let lookup = [format!("GET {intent}")];
        stripe.requests();

        // The webhook says refunded, which is not true. The function asks Stripe.
        stripe.webhook(&body, &signed(&body)).await.is(200, &received);
        assert_eq!(stripe.requests(), lookup);
        buyer.get(&path).await.is(200, &payment(order, "CAPTURED", &intent));

        // Now it is true: someone has refunded the charge at Stripe.
        stripe.call(Method::POST, "/v1/refunds", &[("payment_intent", &intent)]).await;
        let body = charge_refunded(&new_sku("evt"), order, &intent);
        stripe.webhook(&body, &signed(&body)).await.is(200, &received);
        // The function asks again after it has stored the change, in case there is another.
        assert_eq!(stripe.requests(), [lookup.clone(), lookup].concat());
        buyer.get(&path).await.is(200, &payment(order, "REFUNDED", &intent));
        let key = format!("payment#{order}");
        let stored = stripe.system.item("payments", &key, "payment").await;

        for _ in 0..3 {
            stripe.webhook(&body, &signed(&body)).await.is(200, &received);
        }
        assert_eq!(stripe.requests(), Vec::<String>::new(), "a repeated webhook calls Stripe");
        assert_eq!(stripe.system.item("payments", &key, "payment").await, stored);
        assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
        assert_eq!(stripe.intent(order).await.1, json!(["succeeded", "succeeded", true, 900, 900]));
    })
    .await;
}

#[tokio::test]
async fn a_forged_or_expired_webhook_changes_nothing() {
    with_stripe(async |stripe| {
        let buyer = stripe.system.registered("Ara").await;
        let order = Uuid::now_v7();
        step(&buyer, "payments-authorize", order).await.unwrap();
        step(&buyer, "payments-capture", order).await.unwrap();
        let (intent, _) = stripe.intent(order).await;
        stripe.call(Method::POST, "/v1/refunds", &[("payment_intent", &intent)]).await;
        stripe.requests();

        let body = charge_refunded(&new_sku("evt"), order, &intent);
        let another = charge_refunded(&new_sku("evt"), order, &intent);
        for signature in [
            String::new(),
            "nonsense".to_owned(),
            signature("", 0, &body),
            signature("whsec_of_another", 0, &body),
            signature(WEBHOOK_SECRET, 0, &another),
            signature(WEBHOOK_SECRET, -310, &body),
            signature(WEBHOOK_SECRET, 310, &body),
            signature(WEBHOOK_SECRET, 0, &body).replace("v1=", "v0="),
        ] {
            stripe.webhook(&body, &signature).await.is_problem(401, "unauthenticated");
        }
        let unsigned = stripe.system.request(Method::POST, "/payments/webhook");
        let unsigned = unsigned.raw("application/json", body.as_str()).send().await;
        unsigned.is_problem(401, "unauthenticated");
        assert_eq!(stripe.requests(), Vec::<String>::new());
        let path = format!("/orders/{order}/payment");
        buyer.get(&path).await.is(200, &payment(order, "CAPTURED", &intent));

        // Four minutes are not too old. A second signature is allowed: Stripe sends it while the secret is being replaced.
        let (old, new) = (signature("whsec_of_old", -240, &body), signature(WEBHOOK_SECRET, -240, &body));
        let both = format!("{old},{}", new.split_once(',').unwrap().1);
        stripe.webhook(&body, &both).await.is(200, &json!({"received": true}));
        buyer.get(&path).await.is(200, &payment(order, "REFUNDED", &intent));
    })
    .await;
}

#[tokio::test]
async fn a_webhook_about_an_unknown_object_is_acknowledged() {
    with_stripe(async |stripe| {
        let unknown = charge_refunded(&new_sku("evt"), Uuid::now_v7(), "pi_1");
        let customer = json!({"id": "cus_1", "object": "customer"});
        let other = json!({"id": new_sku("evt"), "type": "customer.created", "data": {"object": customer}});
        for body in [unknown, other.to_string()] {
            let answer = stripe.webhook(&body, &signature(WEBHOOK_SECRET, 0, &body)).await;
            answer.is(200, &json!({"received": true}));
        }
        for (body, status, kind) in [("{", 400, "unreadable"), ("{}", 400, "unreadable")] {
            let answer = stripe.webhook(body, &signature(WEBHOOK_SECRET, 0, body)).await;
            answer.is_problem(status, kind);
        }
        assert_eq!(stripe.requests(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_stripe_signed_is_accepted() {
    with_stripe(async |stripe| {
        let system = &stripe.system;
        let url = format!("{}/payments/webhook", system.output("api_url"));
        let form = [("url", url.as_str()), ("secret", WEBHOOK_SECRET)];
        stripe.call(Method::POST, "/_config/webhooks/madang", &form).await;
        let (buyer, sku) = shop(system, 5).await;
        let order = buyer.orders(&sku, 2, CARD).await;
        assert_settled(system, order, &sku, ["CONFIRMED", "COMMITTED", "CAPTURED"], 3).await;
        let events = stripe.call(Method::GET, "/v1/events?type=payment_intent.succeeded", &[]).await;
        let [event] = events["data"].as_array().unwrap().as_slice() else { panic!("{events}") };
        assert_eq!(event["data"]["object"]["metadata"]["order_id"], json!(order));
        let handled = format!("webhook#{}", event["id"].as_str().unwrap());
        eventually("the webhook is handled", async || system.item("payments", &handled, "webhook").await)
            .await;
        let (intent, _) = stripe.intent(order).await;
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "CAPTURED", &intent));
    })
    .await;
}
