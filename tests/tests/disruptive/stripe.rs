//! Orders that are paid through Stripe's API, as localstripe (`PyPI`) plays it on this machine.
//!
//! The functions of payments are pointed at a front before localstripe. It has what localstripe lacks, a
//! memory for `Idempotency-Key`, it writes down what it is asked for, and it loses or holds back an answer
//! where a test wants that.
//!
//! Every order is paid there meanwhile: nothing else may order while these tests run, and each has Stripe to
//! itself.

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
    shop::{Books, CARD, at_rest, new_sku, shop, usd},
    turns::turn,
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, Notify},
    task::JoinHandle,
};
use uuid::Uuid;

/// The functions that ask the provider.
const FUNCTIONS: [&str; 4] =
    ["payments-authorize", "payments-capture", "payments-cancel", "payments-webhook"];
const SECRET: &str = "madang/stripe";
const SECRET_KEY: &str = "sk_test_of_the_systems_tests";
const WEBHOOK_SECRET: &str = "whsec_of_the_systems_tests";
/// The card that localstripe declines when it is charged.
const DECLINED: &str = "pm_card_chargeCustomerFail";

/// Serves localstripe at a free port, which it prints; leaves nothing behind on the disk, and goes when the
/// test does, however that ends.
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

/// A localstripe that runs, with empty books.
struct Localstripe {
    process: Child,
    // Kept open: whoever prints where nobody reads dies.
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

/// What the front does with an answer.
enum Plan {
    /// It never gets there.
    Lose,
    /// It gets there when the test says so.
    HoldBack(Arc<Held>),
}

/// An answer that is held back.
#[derive(Default)]
struct Held {
    /// It is there.
    here: Notify,
    /// It may go.
    go: Notify,
}

/// An answer of localstripe's.
#[derive(Clone)]
struct Said(StatusCode, Vec<u8>);

struct Front {
    behind: String,
    http: reqwest::Client,
    asked: Cell<Vec<String>>,
    plans: Cell<Vec<(&'static str, Plan)>>,
    remembered: Mutex<HashMap<String, Said>>,
}

impl Front {
    async fn ask(&self, request: reqwest::Request) -> Said {
        let answer = self.http.execute(request).await.expect("localstripe answers");
        Said(answer.status(), answer.bytes().await.unwrap().to_vec())
    }
}

async fn forward(State(front): State<Arc<Front>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let path = head.uri.path();
    let what = path.rsplit('/').next().unwrap_or_default().to_owned();
    front.asked.lock().unwrap().push(format!("{} {what}", head.method));
    let key = head.headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let url = format!("{}{}", front.behind, head.uri);
    let request = front.http.request(head.method, url).headers(head.headers).body(body).build().unwrap();
    let said = match key {
        Some(key) => {
            let mut remembered = front.remembered.lock().await;
            if let Some(said) = remembered.get(&key) {
                said.clone()
            } else {
                let said = front.ask(request).await;
                remembered.insert(key, said.clone());
                said
            }
        }
        None => front.ask(request).await,
    };
    let plan = {
        let mut plans = front.plans.lock().unwrap();
        plans.iter().position(|(planned, _)| *planned == what).map(|place| plans.remove(place).1)
    };
    match plan {
        Some(Plan::Lose) => pending().await,
        Some(Plan::HoldBack(held)) => {
            held.here.notify_one();
            held.go.notified().await;
        }
        None => {}
    }
    let Said(status, body) = said;
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Body::from(body)).unwrap()
}

/// Stripe, as a test sees it.
struct Stripe {
    system: System,
    localstripe: Localstripe,
    front: Arc<Front>,
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
        let front = Arc::new(Front {
            behind: localstripe.url.clone(),
            http: reqwest::Client::new(),
            asked: Cell::default(),
            plans: Cell::default(),
            remembered: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(forward).with_state(Arc::clone(&front));
        let server = tokio::spawn(async { axum::serve(listener, router).await.expect("the front serves") });
        Self { system: system.clone(), localstripe, front, url, server }
    }

    /// What has been asked for, as the method and the end of the path, since this was asked last.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.front.asked.lock().unwrap())
    }

    /// Loses the next answer to what ends so.
    fn lose(&self, what: &'static str) {
        self.front.plans.lock().unwrap().push((what, Plan::Lose));
    }

    /// Holds back the next answer to what ends so.
    fn hold_back(&self, what: &'static str) -> Arc<Held> {
        let held = Arc::new(Held::default());
        self.front.plans.lock().unwrap().push((what, Plan::HoldBack(Arc::clone(&held))));
        held
    }

    /// Asks localstripe past the front, as its account's owner does.
    async fn call(&self, method: Method, path: &str, form: &[(&str, &str)]) -> Value {
        let url = format!("{}{path}", self.localstripe.url);
        let request = self.front.http.request(method, url).bearer_auth(SECRET_KEY).form(form);
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

    /// How an order's only intent stands: its id, its status, and how much was charged and given back, where
    /// anything was.
    async fn intent(&self, order: Uuid) -> (String, Value) {
        let intents = self.intents(order).await;
        let [intent] = intents.as_slice() else { panic!("not one intent: {intents:?}") };
        assert_eq!((&intent["capture_method"], &intent["currency"]), (&json!("manual"), &json!("usd")));
        let charge = &intent["latest_charge"];
        let status = &intent["status"];
        let standing = if charge.is_null() {
            json!([status])
        } else {
            json!([status, charge["status"], charge["captured"], charge["amount"], charge["amount_refunded"]])
        };
        (intent["id"].as_str().unwrap().to_owned(), standing)
    }

    /// Sends a webhook to the API with a signature.
    async fn webhook(&self, body: &str, signature: &str) -> Answer {
        let request = self.system.request(Method::POST, "/payments/webhook");
        request.header("stripe-signature", signature).raw("application/json", body).send().await
    }
}

/// A body's signature at a time, in seconds from now.
fn signature(secret: &str, seconds_from_now: i64, body: &str) -> String {
    let time = Timestamp::now().as_second() + seconds_from_now;
    let mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(format!("{time}.{body}"));
    format!("t={time},v1={:x}", Bytes::copy_from_slice(&mac.finalize().into_bytes()))
}

/// Runs a test while orders are paid at a Stripe of its own, and then at the sandbox again, whatever happens.
async fn with_stripe(test: impl AsyncFnOnce(&Stripe)) {
    let system = System::connect().await;
    // It starts while others have their turn.
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

/// Has the functions find the keys while `test` runs, and afterwards what was there before.
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

/// Awaits that an order of two things is at rest and asserts how the order, its reservation and its payment
/// stand in their tables, and how much of the stock it has left.
async fn assert_rest(system: &System, order: Uuid, sku: &str, words: [&str; 3], left: u64) {
    at_rest(system, &[order]).await;
    let books = Books::read(system, order).await;
    assert_eq!([books.order.as_str(), &books.reservation, &books.payment], words);
    assert_eq!(books.provider, "none", "nothing is in the sandbox's books");
    let stock = system.stock(sku).await;
    let counts = (&stock["on_hand"], &stock["reserved"], &stock["available"]);
    assert_eq!(counts, (&json!(left), &json!(0), &json!(left)));
}

/// The payment of an order of two things, whole.
fn payment(order: Uuid, status: &str, reference: &str) -> Value {
    json!({
        "order_id": order, "status": status, "amount": usd(900), "provider": "stripe",
        "provider_reference": reference, "created_at": "<time>",
    })
}

/// Invokes a step for an order of this buyer's.
async fn step(buyer: &Person, function: &str, order: Uuid) -> Result<Value, String> {
    let input = json!({"order_id": order, "buyer_id": buyer.id, "amount": usd(900), "payment_method": CARD,
                       "traceparent": null});
    buyer.system.step(function, &input).await
}

/// Invokes a step five times at once: each time it is done.
async fn five_times(buyer: &Person, function: &str, order: Uuid) {
    for answer in join_all((0..5).map(|_| step(buyer, function, order))).await {
        assert_eq!(answer, Ok(json!({})), "{function}");
    }
}

#[tokio::test]
async fn a_confirmed_order_is_held_first_and_captured_at_stripe() {
    with_stripe(async |stripe| {
        let system = &stripe.system;
        let (buyer, sku) = shop(system, 5).await;
        let order = buyer.orders(&sku, 2, CARD).await;
        assert_eq!(buyer.settled(order).await.body["status"], "CONFIRMED");
        assert_rest(system, order, &sku, ["CONFIRMED", "COMMITTED", "CAPTURED"], 3).await;

        let (intent, standing) = stripe.intent(order).await;
        assert_eq!(standing, json!(["succeeded", "succeeded", true, 900, 0]));
        assert_eq!(stripe.asked(), ["POST payment_intents", "POST confirm", "POST capture"]);
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "CAPTURED", &intent));
        for function in FUNCTIONS {
            assert_eq!(system.log_lines(function, SECRET_KEY).await, Vec::<Value>::new(), "{function}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_declined_card_is_compensated_and_nothing_is_held_at_stripe() {
    with_stripe(async |stripe| {
        let system = &stripe.system;
        let (buyer, sku) = shop(system, 5).await;
        let order = buyer.orders(&sku, 2, DECLINED).await;
        let rejected = buyer.settled(order).await;
        assert_eq!(rejected.body["reason"], "payment_declined");
        assert_rest(system, order, &sku, ["REJECTED", "RELEASED", "DECLINED"], 5).await;

        let (intent, standing) = stripe.intent(order).await;
        assert_eq!(standing, json!(["canceled", "failed", false, 900, 0]));
        assert_eq!(stripe.asked(), ["POST payment_intents", "POST confirm", "POST cancel"]);
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "DECLINED", &intent));
    })
    .await;
}

#[tokio::test]
async fn what_is_held_for_an_order_that_is_cancelled_is_let_go_at_stripe() {
    with_stripe(async |stripe| {
        let system = &stripe.system;
        let (buyer, sku) = shop(system, 5).await;
        let held = stripe.hold_back("confirm");
        let order = buyer.orders(&sku, 2, CARD).await;
        held.here.notified().await;
        let (intent, standing) = stripe.intent(order).await;
        assert_eq!(standing, json!(["requires_capture", "succeeded", false, 900, 0]));
        let cancelled = buyer.post(&format!("/orders/{order}/cancel"), &json!({})).await;
        assert_eq!(cancelled.status, 202, "{cancelled:?}");
        held.go.notify_one();

        assert_rest(system, order, &sku, ["CANCELLED", "RELEASED", "CANCELLED"], 5).await;
        let voided = json!(["canceled", "succeeded", false, 900, 0]);
        assert_eq!(stripe.intent(order).await, (intent.clone(), voided));
        assert_eq!(stripe.asked(), ["POST payment_intents", "POST confirm", "POST cancel"]);
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "CANCELLED", &intent));
    })
    .await;
}

#[tokio::test]
async fn what_was_captured_is_refunded_once() {
    with_stripe(async |stripe| {
        let (buyer, sku) = shop(&stripe.system, 5).await;
        let order = buyer.orders(&sku, 2, CARD).await;
        at_rest(&stripe.system, &[order]).await;
        stripe.asked();
        for _ in 0..2 {
            assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
        }
        let (intent, standing) = stripe.intent(order).await;
        assert_eq!(standing, json!(["succeeded", "succeeded", true, 900, 900]));
        assert_eq!(stripe.asked(), ["POST cancel", &format!("GET {intent}"), "POST refunds"]);
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "REFUNDED", &intent));
    })
    .await;
}

#[tokio::test]
async fn a_step_that_runs_five_times_at_once_moves_the_money_once() {
    with_stripe(async |stripe| {
        let buyer = stripe.system.registered("Ara").await;
        let order = Uuid::now_v7();
        five_times(&buyer, "payments-authorize", order).await;
        assert_eq!(stripe.intent(order).await.1, json!(["requires_capture", "succeeded", false, 900, 0]));
        five_times(&buyer, "payments-capture", order).await;
        assert_eq!(stripe.intent(order).await.1, json!(["succeeded", "succeeded", true, 900, 0]));
        five_times(&buyer, "payments-cancel", order).await;
        assert_eq!(stripe.intent(order).await.1, json!(["succeeded", "succeeded", true, 900, 900]));

        stripe.asked();
        five_times(&buyer, "payments-cancel", order).await;
        assert_eq!(step(&buyer, "payments-authorize", order).await, Err("Order.Cancelled".to_owned()));
        assert_eq!(stripe.asked(), Vec::<String>::new(), "what is done is not asked for again");
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again_and_the_money_moves_once() {
    with_stripe(async |stripe| {
        let system = &stripe.system;
        let (buyer, sku) = shop(system, 5).await;
        for what in ["payment_intents", "confirm", "capture"] {
            stripe.lose(what);
        }
        let order = buyer.orders(&sku, 2, CARD).await;
        assert_eq!(buyer.settled(order).await.body["status"], "CONFIRMED");
        assert_rest(system, order, &sku, ["CONFIRMED", "COMMITTED", "CAPTURED"], 3).await;
        let (intent, standing) = stripe.intent(order).await;
        assert_eq!(standing, json!(["succeeded", "succeeded", true, 900, 0]));
        // What was done before is refused; then the intent itself says how it stands.
        let question = format!("GET {intent}");
        let expected = [
            "POST payment_intents",
            "POST payment_intents",
            "POST confirm",
            "POST confirm",
            &question,
            "POST capture",
            "POST capture",
            &question,
        ];
        assert_eq!(stripe.asked(), expected);

        stripe.lose("refunds");
        assert_eq!(step(&buyer, "payments-cancel", order).await, Err("Transient".to_owned()));
        assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
        assert_eq!(stripe.intent(order).await.1, json!(["succeeded", "succeeded", true, 900, 900]));

        let order = Uuid::now_v7();
        stripe.lose("cancel");
        assert_eq!(step(&buyer, "payments-authorize", order).await, Ok(json!({})));
        assert_eq!(step(&buyer, "payments-cancel", order).await, Err("Transient".to_owned()));
        assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
        let (intent, standing) = stripe.intent(order).await;
        assert_eq!(standing, json!(["canceled", "succeeded", false, 900, 0]));
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "CANCELLED", &intent));
    })
    .await;
}

/// The event that Stripe sends when a charge was refunded.
fn charge_refunded(event: &str, order: Uuid, intent: &str) -> String {
    let charge = json!({"id": "ch_1", "object": "charge", "payment_intent": intent, "refunded": true,
                        "metadata": {"order_id": order}});
    json!({"id": event, "object": "event", "type": "charge.refunded", "data": {"object": charge}}).to_string()
}

#[tokio::test]
async fn a_webhook_is_a_reason_to_ask_and_is_heard_once() {
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
        let question = [format!("GET {intent}")];
        stripe.asked();

        // It says refunded, which is not so: Stripe is asked, not believed.
        stripe.webhook(&body, &signed(&body)).await.is(200, &received);
        assert_eq!(stripe.asked(), question);
        buyer.get(&path).await.is(200, &payment(order, "CAPTURED", &intent));

        // Now it is: somebody has refunded it at Stripe.
        stripe.call(Method::POST, "/v1/refunds", &[("payment_intent", &intent)]).await;
        let body = charge_refunded(&new_sku("evt"), order, &intent);
        stripe.webhook(&body, &signed(&body)).await.is(200, &received);
        // Once more after the change was written: has Stripe anything to add?
        assert_eq!(stripe.asked(), [question.clone(), question].concat());
        buyer.get(&path).await.is(200, &payment(order, "REFUNDED", &intent));
        let key = format!("payment#{order}");
        let standing = stripe.system.item("payments", &key, "payment").await;

        for _ in 0..3 {
            stripe.webhook(&body, &signed(&body)).await.is(200, &received);
        }
        assert_eq!(stripe.asked(), Vec::<String>::new(), "it was heard before");
        assert_eq!(stripe.system.item("payments", &key, "payment").await, standing);
        assert_eq!(step(&buyer, "payments-cancel", order).await, Ok(json!({})));
        assert_eq!(stripe.intent(order).await.1, json!(["succeeded", "succeeded", true, 900, 900]));
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_is_forged_or_old_changes_nothing() {
    with_stripe(async |stripe| {
        let buyer = stripe.system.registered("Ara").await;
        let order = Uuid::now_v7();
        step(&buyer, "payments-authorize", order).await.unwrap();
        step(&buyer, "payments-capture", order).await.unwrap();
        let (intent, _) = stripe.intent(order).await;
        stripe.call(Method::POST, "/v1/refunds", &[("payment_intent", &intent)]).await;
        stripe.asked();

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
        assert_eq!(stripe.asked(), Vec::<String>::new());
        let path = format!("/orders/{order}/payment");
        buyer.get(&path).await.is(200, &payment(order, "CAPTURED", &intent));

        // Four minutes are not too old, and a second signature, of a secret that is being replaced, does no harm.
        let (old, new) = (signature("whsec_of_old", -240, &body), signature(WEBHOOK_SECRET, -240, &body));
        let both = format!("{old},{}", new.split_once(',').unwrap().1);
        stripe.webhook(&body, &both).await.is(200, &json!({"received": true}));
        buyer.get(&path).await.is(200, &payment(order, "REFUNDED", &intent));
    })
    .await;
}

#[tokio::test]
async fn a_webhook_about_nothing_that_is_known_is_received() {
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
        assert_eq!(stripe.asked(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn what_stripe_signs_itself_is_genuine() {
    with_stripe(async |stripe| {
        let system = &stripe.system;
        let url = format!("{}/payments/webhook", system.output("api_url"));
        let form = [("url", url.as_str()), ("secret", WEBHOOK_SECRET)];
        stripe.call(Method::POST, "/_config/webhooks/madang", &form).await;
        let (buyer, sku) = shop(system, 5).await;
        let order = buyer.orders(&sku, 2, CARD).await;
        assert_rest(system, order, &sku, ["CONFIRMED", "COMMITTED", "CAPTURED"], 3).await;
        let events = stripe.call(Method::GET, "/v1/events?type=payment_intent.succeeded", &[]).await;
        let [event] = events["data"].as_array().unwrap().as_slice() else { panic!("{events}") };
        assert_eq!(event["data"]["object"]["metadata"]["order_id"], json!(order));
        let heard = format!("webhook#{}", event["id"].as_str().unwrap());
        eventually("the webhook is heard", async || system.item("payments", &heard, "webhook").await).await;
        let (intent, _) = stripe.intent(order).await;
        let answer = buyer.get(&format!("/orders/{order}/payment")).await;
        answer.is(200, &payment(order, "CAPTURED", &intent));
    })
    .await;
}
