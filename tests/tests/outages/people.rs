//! People who work during an outage, and what there must be of their work afterwards.
//!
//! Someone whose request is answered with 503 repeats it, with the same `Idempotency-Key` if it has one, as clients do.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::{Either, join_all, select};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Answer, Person, Request, System, eventually,
    shop::{
        CARD, COMPENSATIONS, DECLINED, STEPS, assert_invariants, new_sku, order, order_id, usd,
        wait_until_settled,
    },
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    dependencies::{Dependency, Function, Kind, functions},
    report::Statuses,
};

/// Maximum wait for an answer or an effect: the outages of a pipeline follow each other.
const PATIENCE: Duration = Duration::from_mins(6);
/// The pause of a client after a 503, and of a look at effects.
const PAUSE: Duration = Duration::from_secs(2);
/// The stock: more than anyone orders.
const ON_HAND: u32 = 100;
/// Comments of the reader, which the author is told of by mail: some before an outage ends, and one after it.
const COMMENTS: usize = 4;
/// The pause between them.
const BETWEEN_COMMENTS: Duration = Duration::from_secs(12);

/// Makes a request, once for each attempt.
type Make<'a> = Box<dyn Fn() -> Request + 'a>;

/// An order, and how it must end.
#[derive(Clone, Debug)]
struct Order {
    key: String,
    card: &'static str,
    /// The step whose table is away for this order.
    step: Option<&'static str>,
}

impl Order {
    fn new(card: &'static str, step: Option<&'static str>) -> Self {
        Self { key: new_sku("key"), card, step }
    }

    /// The expected status and reason.
    fn ends(&self) -> (Value, Value) {
        match self.card {
            CARD => (json!("CONFIRMED"), Value::Null),
            _ => (json!("REJECTED"), json!("payment_declined")),
        }
    }
}

/// The people, what they have done before the outage, and what they see during it.
pub(crate) struct People {
    pub(crate) system: System,
    admin: Person,
    /// Is told by mail of comments on the post.
    author: Person,
    post: Uuid,
    told_before: usize,
    /// Comments on the post.
    reader: Person,
    /// Other services have no copy of this one, so that they ask users.
    stranger: Person,
    /// Gets another name, in the post and the comment, too.
    renamer: Person,
    renamed: (Uuid, Uuid),
    /// Deletes the profile, and with it the post and the comment.
    leaver: Person,
    left: (Uuid, Uuid),
    /// Has a login, and registers.
    newcomer: Person,
    buyer: Person,
    sku: String,
    orders: Vec<Order>,
    /// Functions that are sent something malformed, each with an id in it.
    set_aside: Vec<(Function, Uuid)>,
    seen: Mutex<BTreeMap<String, Statuses>>,
}

/// The key of an item.
fn key(pk: &str, sk: &str) -> [(String, AttributeValue); 2] {
    [("pk", pk), ("sk", sk)].map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())))
}

impl People {
    /// The people before an outage of these dependencies.
    pub(crate) async fn meet(system: &System, parts: &[(Dependency, Kind)]) -> Self {
        let registered = async |name: &str| {
            let person = system.registered(name).await;
            person.wait_for_welcome().await;
            person
        };
        let (admin, author, reader) =
            (system.admin().await, registered("Ara").await, registered("Bada").await);
        let (stranger, renamer) = (registered("Cheon").await, registered("Dal").await);
        let (leaver, buyer) = (registered("Eun").await, registered("Gaon").await);
        let post = author.writes_commentable_post("Spring").await;
        let renamed = (renamer.writes_post("Dal's").await, renamer.comments_on(post, "Dal's.").await);
        let left = (leaver.writes_commentable_post("Eun's").await, leaver.comments_on(post, "Eun's.").await);
        let told_before = eventually("the author is told of both comments", async || {
            Some(author.notifications("comment").await.len()).filter(|told| *told == 2)
        })
        .await;
        system.wait_until_drained("notifications-email").await;
        let preferences = author.request(Method::PUT, "/notifications/preferences").if_match(0);
        preferences.json(&json!({"email": true})).send().await.is(200, &json!({"email": true}));
        let sku = new_sku("tea");
        admin.stocks(&sku, &usd(450), ON_HAND).await;
        let mut orders = vec![Order::new(CARD, None), Order::new(CARD, None), Order::new(DECLINED, None)];
        if parts.contains(&(Dependency::Table, Kind::Step)) {
            orders.extend(STEPS.map(|step| Order::new(CARD, Some(step))));
            orders.extend(COMPENSATIONS.map(|step| Order::new(DECLINED, Some(step))));
        }
        let with_dead_letters = functions().into_iter().filter(|function| {
            function.reaches(Dependency::Queue) && parts.contains(&(Dependency::Queue, function.kind))
        });
        let people = Self {
            system: system.clone(),
            newcomer: system.sign_up().await,
            set_aside: with_dead_letters.map(|function| (function, Uuid::now_v7())).collect(),
            seen: Mutex::default(),
            admin,
            author,
            post,
            told_before,
            reader,
            stranger,
            renamer,
            renamed,
            leaver,
            left,
            buyer,
            sku,
            orders,
        };
        people.forget_stranger().await;
        people
    }

    /// Removes the copies that other services have of the stranger, once they have them.
    async fn forget_stranger(&self) {
        let pk = format!("user#{}", self.stranger.id);
        let dynamodb = aws_sdk_dynamodb::Client::new(&self.system.aws);
        for table in ["posts", "comments", "orders"] {
            eventually(&format!("{table} knows the stranger"), async || {
                self.system.item(table, &pk, "user").await
            })
            .await;
            let remove = dynamodb.delete_item().table_name(table).set_key(Some(key(&pk, "user").into()));
            remove.send().await.expect("DeleteItem");
        }
    }

    /// The order for which this step's table is away.
    pub(crate) fn order_of_step(&self, step: &str) -> Uuid {
        let order = self.orders.iter().find(|order| order.step == Some(step));
        order_id(&self.buyer, &order.unwrap_or_else(|| panic!("no order for {step}")).key)
    }

    /// The answers that people got from an endpoint, or from all endpoints if the function is none.
    pub(crate) fn saw(&self, function: &Function) -> Statuses {
        let seen = self.seen.lock().unwrap();
        if function.kind == Kind::Endpoint {
            return seen.get(&function.name).cloned().unwrap_or_default();
        }
        let mut all = Statuses::new();
        for (status, times) in seen.values().flatten() {
            *all.entry(*status).or_default() += times;
        }
        all
    }

    /// Sends a request to an endpoint until it is answered with one of these statuses. Any other answer must be a 503.
    async fn persists(&self, function: &str, done: &[u16], send: impl AsyncFn() -> Answer) -> Answer {
        let start = Instant::now();
        loop {
            let answer = Box::pin(send()).await;
            let status = answer.status.as_u16();
            *self.seen.lock().unwrap().entry(function.to_owned()).or_default().entry(status).or_default() +=
                1;
            if done.contains(&status) {
                return answer;
            }
            answer.is_problem(503, "unavailable");
            assert!(start.elapsed() < PATIENCE, "{function}: {answer:?}");
            sleep(PAUSE).await;
        }
    }

    /// Creates something with one `Idempotency-Key`, however often that takes.
    async fn creates(
        &self,
        function: &str,
        person: &Person,
        path: &str,
        body: &Value,
        status: u16,
    ) -> Answer {
        let key = new_sku("key");
        let send = async || person.request(Method::POST, path).key(&key).json(body).send().await;
        self.persists(function, &[status], send).await
    }

    /// Works until everything has been accepted.
    pub(crate) async fn work(&self) {
        self.send_malformed().await;
        tokio::join!(
            Box::pin(self.write()),
            Box::pin(self.come_and_go()),
            Box::pin(self.order()),
            Box::pin(self.look_around()),
        );
    }

    /// Runs the reconciler more often than it runs on its own, until this has ended.
    pub(crate) async fn while_reconciling<T>(&self, work: impl Future<Output = T>) -> T {
        let reconcile = Box::pin(async {
            let lambda = aws_sdk_lambda::Client::new(&self.system.aws);
            loop {
                // It fails as long as something that it needs is away.
                drop(lambda.invoke().function_name("orders-reconcile").send().await);
                sleep(Duration::from_secs(5)).await;
            }
        });
        match select(Box::pin(work), reconcile).await {
            Either::Left((result, _)) => result,
            Either::Right((never, _)) => never,
        }
    }

    async fn write(&self) {
        let draft = json!({"title": "Summer", "body": "It is hot."});
        let comments = format!("/posts/{}/comments", self.post);
        let by_reader = async {
            for number in 0..COMMENTS {
                let body = json!({"body": format!("So do I, {number}.")});
                self.creates("comments-create", &self.reader, &comments, &body, 201).await;
                sleep(BETWEEN_COMMENTS).await;
            }
        };
        let by_stranger = async {
            self.creates("posts-create", &self.stranger, "/posts", &draft, 201).await;
            self.creates("comments-create", &self.stranger, &comments, &json!({"body": "Me, too."}), 201)
                .await;
        };
        tokio::join!(by_reader, by_stranger);
    }

    async fn come_and_go(&self) {
        let register = self.persists("users-register", &[200, 201], async || {
            self.newcomer.post("/users", &json!({"name": "Haru"})).await
        });
        // 412 and 403: the change was made, but its answer was a 503.
        let rename = self.persists("users-update", &[200, 412], async || {
            self.renamer.patch("/users/me", 1, &json!({"name": "Dalrae"})).await
        });
        let leave =
            self.persists("users-delete", &[202, 403], async || self.leaver.delete("/users/me").await);
        tokio::join!(Box::pin(register), Box::pin(rename), Box::pin(leave));
    }

    async fn order(&self) {
        let by_buyer = self.orders.iter().map(async |placed| {
            let body = order(&self.sku, 1, placed.card);
            let send = async || {
                self.buyer.request(Method::POST, "/orders").key(&placed.key).json(&body).send().await
            };
            let answer = self.persists("orders-place", &[202], send).await;
            assert_eq!(answer.id(), order_id(&self.buyer, &placed.key));
        });
        let unknown = self.strangers_order();
        let by_stranger = self.creates("orders-place", &self.stranger, "/orders", &unknown, 202);
        Box::pin(join_all(by_buyer)).await;
        let answer = Box::pin(by_stranger).await;
        assert_eq!(answer.body["status"], "PENDING", "{answer:?}");
    }

    /// An order of something that does not exist: it is rejected, and takes nothing out of the stock.
    fn strangers_order(&self) -> Value {
        order(&format!("no-{}", self.sku), 1, CARD)
    }

    /// Sends every other endpoint one request that changes nothing.
    async fn look_around(&self) {
        let (nothing, author) = (Uuid::now_v7(), self.author.id);
        let (post, sku) = (self.post, &self.sku);
        let get = |path: &str| self.author.request(Method::GET, path);
        let change =
            |path: &str, body: Value| self.author.request(Method::PATCH, path).if_match(99).json(&body);
        let delete = |path: &str| self.author.request(Method::DELETE, path);
        let edit = || {
            let listing = json!({"name": "Tea", "unit_price": usd(1), "on_hand": 1});
            self.admin.request(Method::PUT, &format!("/inventory/{sku}")).if_match(99).json(&listing)
        };
        let comment = self.renamed.1;
        let requests: Vec<(&str, u16, Make<'_>)> = vec![
            ("users-get", 200, Box::new(move || get("/users/me"))),
            ("posts-list", 200, Box::new(move || get(&format!("/posts?author={author}")))),
            ("posts-get", 200, Box::new(move || get(&format!("/posts/{post}")))),
            ("posts-author", 200, Box::new(move || get(&format!("/posts/{post}/author")))),
            (
                "posts-update",
                412,
                Box::new(move || change(&format!("/posts/{post}"), json!({"title": "No"}))),
            ),
            ("posts-delete", 404, Box::new(move || delete(&format!("/posts/{nothing}")))),
            ("comments-list", 200, Box::new(move || get(&format!("/posts/{post}/comments")))),
            ("comments-get", 200, Box::new(move || get(&format!("/posts/{post}/comments/{comment}")))),
            (
                "comments-update",
                403,
                Box::new(move || change(&format!("/posts/{post}/comments/{comment}"), json!({"body": "No"}))),
            ),
            ("comments-delete", 404, Box::new(move || delete(&format!("/posts/{post}/comments/{nothing}")))),
            ("notifications-list", 200, Box::new(move || get("/notifications"))),
            (
                "notifications-read",
                404,
                Box::new(move || {
                    self.author.request(Method::POST, &format!("/notifications/{nothing}/read"))
                }),
            ),
            ("notifications-preferences", 200, Box::new(move || get("/notifications/preferences"))),
            ("inventory-list", 200, Box::new(move || get("/inventory"))),
            ("inventory-get", 200, Box::new(move || get(&format!("/inventory/{sku}")))),
            ("inventory-put", 412, Box::new(edit)),
            (
                "inventory-staff",
                200,
                Box::new(move || self.admin.request(Method::GET, &format!("/staff/inventory/{sku}"))),
            ),
            ("orders-list", 200, Box::new(move || get("/orders"))),
            ("orders-get", 404, Box::new(move || get(&format!("/orders/{nothing}")))),
            (
                "orders-cancel",
                404,
                Box::new(move || self.author.request(Method::POST, &format!("/orders/{nothing}/cancel"))),
            ),
            ("payments-get", 404, Box::new(move || get(&format!("/orders/{nothing}/payment")))),
        ];
        let looks = requests.iter().map(async |(function, status, request)| {
            self.persists(function, &[*status], async || request().send().await).await;
        });
        let instance = "/registry/nobody/instances/laptop";
        let address = json!({"url": "http://127.0.0.1:9000"});
        let signed = [
            ("users-lookup", 200, "GET", format!("/internal/users/{author}")),
            ("registry-resolve", 200, "GET", "/registry/users".to_owned()),
            ("registry-register", 404, "PUT", instance.to_owned()),
            ("registry-deregister", 404, "DELETE", instance.to_owned()),
        ];
        let signed_looks = signed.iter().map(async |(function, status, method, path)| {
            let body = (*method == "PUT").then_some(&address);
            let send = async || self.system.send_signed(method, path, body).await;
            self.persists(function, &[*status], send).await;
        });
        tokio::join!(Box::pin(join_all(looks)), Box::pin(join_all(signed_looks)));
    }

    /// Sends something malformed to functions whose dead-letter queue is away.
    async fn send_malformed(&self) {
        let dynamodb = aws_sdk_dynamodb::Client::new(&self.system.aws);
        for (function, id) in &self.set_aside {
            if function.kind == Kind::Consumer {
                self.system.send(&function.name, &format!("malformed {id}")).await;
                continue;
            }
            let mut item: std::collections::HashMap<_, _> =
                key(&format!("malformed#{id}"), "malformed").into();
            let event = [("id".to_owned(), AttributeValue::S(id.to_string()))];
            item.insert("outbox".to_owned(), AttributeValue::M(event.into()));
            let put = dynamodb.put_item().table_name(table_of(function)).set_item(Some(item));
            put.send().await.expect("PutItem");
        }
    }

    /// Waits until every effect of the work is there, and asserts that it is there once.
    pub(crate) async fn effects_are_there(&self) {
        for (function, id) in &self.set_aside {
            self.is_set_aside(function, *id).await;
        }
        Box::pin(self.orders_are_settled()).await;
        self.names_are_current().await;
        self.leaver_is_gone().await;
        patiently("the newcomer is welcomed", async || {
            !self.newcomer.notifications("welcome").await.is_empty()
        })
        .await;
        let told = self.told_before + COMMENTS + 1;
        patiently("the author is told of every comment", async || {
            self.author.notifications("comment").await.len() >= told
        })
        .await;
        patiently("the author gets every mail", async || self.mails("Bada").await >= COMMENTS).await;
        patiently("the author gets the stranger's mail", async || self.mails("Cheon").await >= 1).await;

        for function in functions().into_iter().filter(|function| function.kind == Kind::Consumer) {
            patiently(&format!("{} is drained", function.name), async || {
                self.system.depth(&function.name).await == 0 || self.is_only_delayed(&function.name).await
            })
            .await;
        }
        assert_eq!(self.newcomer.notifications("welcome").await.len(), 1);
        assert_eq!(self.author.notifications("comment").await.len(), told);
        assert_eq!((self.mails("Bada").await, self.mails("Cheon").await), (COMMENTS, 1));
        self.buyer_is_told_once().await;
    }

    /// Whether all messages of a queue are delayed: the second pass of a cascade.
    async fn is_only_delayed(&self, queue: &str) -> bool {
        let sqs = aws_sdk_sqs::Client::new(&self.system.aws);
        let name = aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessagesDelayed;
        let delayed =
            sqs.get_queue_attributes().queue_url(self.system.queue(queue)).attribute_names(name.clone());
        let attributes = delayed.send().await.expect("GetQueueAttributes").attributes.unwrap();
        attributes[&name] == self.system.depth(queue).await.to_string()
    }

    /// The number of mails that the author got about comments of someone.
    async fn mails(&self, commenter: &str) -> usize {
        let subject = format!("New comment on your post, by \u{2068}{commenter}\u{2069}");
        self.system.mails(&self.author.email, &subject).await.len()
    }

    /// Waits for the dead letter of something malformed, and removes both.
    async fn is_set_aside(&self, function: &Function, id: Uuid) {
        let queue = format!("{}-dead-letters", function.name);
        patiently(&format!("{queue} has a message"), async || self.system.depth(&queue).await > 0).await;
        let letter = self.system.dead_letter(&function.name, |body| body.contains(&id.to_string())).await;
        let attributes = letter.message_attributes.unwrap_or_default();
        assert!(attributes.contains_key("reason"), "{queue}: {attributes:?}");
        if function.kind == Kind::Relay {
            let dynamodb = aws_sdk_dynamodb::Client::new(&self.system.aws);
            let item = key(&format!("malformed#{id}"), "malformed");
            let remove = dynamodb.delete_item().table_name(table_of(function)).set_key(Some(item.into()));
            remove.send().await.expect("DeleteItem");
        }
    }

    async fn orders_are_settled(&self) {
        let mut confirmed = 0;
        let ids: Vec<Uuid> = self.orders.iter().map(|order| order_id(&self.buyer, &order.key)).collect();
        for (placed, id) in self.orders.iter().zip(&ids) {
            let path = format!("/orders/{id}");
            patiently(&format!("{placed:?} is decided"), async || {
                self.buyer.get(&path).await.body["status"] != "PENDING"
            })
            .await;
            let answer = self.buyer.get(&path).await;
            let ended = (answer.body["status"].clone(), answer.body["reason"].clone());
            assert_eq!(ended, placed.ends(), "{placed:?}: {:?}", self.system.path(&id.to_string()).await);
            confirmed += usize::from(placed.card == CARD);
        }
        wait_until_settled(&self.system, &ids).await;
        let stock = assert_invariants(&self.system, &ids, &self.sku, u64::from(ON_HAND)).await;
        assert_eq!(stock, confirmed);
        patiently("the stranger's order is rejected", async || {
            let orders = self.stranger.get("/orders").await.body["items"].clone();
            orders[0]["status"] == "REJECTED" && orders[0]["reason"] == "unknown_sku"
        })
        .await;
    }

    async fn buyer_is_told_once(&self) {
        let confirmed = self.orders.iter().filter(|order| order.card == CARD).count();
        for (kind, expected) in [
            ("order_placed", self.orders.len()),
            ("order_confirmed", confirmed),
            ("order_rejected", self.orders.len() - confirmed),
            ("order_needs_attention", 0),
        ] {
            patiently(&format!("the buyer has {expected} × {kind}"), async || {
                self.buyer.notifications(kind).await.len() >= expected
            })
            .await;
            assert_eq!(self.buyer.notifications(kind).await.len(), expected, "{kind}");
        }
    }

    async fn names_are_current(&self) {
        for (person, name) in [(&self.newcomer, "Haru"), (&self.renamer, "Dalrae")] {
            for table in ["posts", "comments", "orders", "notifications"] {
                let pk = format!("user#{}", person.id);
                patiently(&format!("{table} knows {name}"), async || {
                    self.system.item(table, &pk, "user").await.is_some_and(|copy| copy["name"] == name)
                })
                .await;
            }
        }
        let (post, comment) = self.renamed;
        let (post, pk) = (format!("post#{post}"), format!("post#{}", self.post));
        for (table, pk, sk) in
            [("posts", post, "post".to_owned()), ("comments", pk, format!("comment#{comment}"))]
        {
            patiently(&format!("the author in {table} has the new name"), async || {
                let item = self.system.item(table, &pk, &sk).await.expect("the item");
                item["author"]["name"] == "Dalrae"
            })
            .await;
        }
    }

    async fn leaver_is_gone(&self) {
        let (post, comment) = self.left;
        for path in [format!("/posts/{post}"), format!("/posts/{post}/comments")] {
            patiently(&format!("{path} is gone"), async || self.system.get(&path).await.status == 404).await;
        }
        let comments = format!("/posts/{}/comments", self.post);
        patiently("the comment is gone", async || {
            !self.system.get(&comments).await.body["items"].to_string().contains(&comment.to_string())
        })
        .await;
        patiently("the notifications are gone", async || {
            self.leaver.notifications("welcome").await.is_empty()
        })
        .await;
        patiently("the login is gone", async || self.leaver.clone().sign_in().await.is_err()).await;
    }
}

/// The table that a relay publishes from.
fn table_of(relay: &Function) -> &str {
    relay.name.strip_suffix("-relay").expect("a relay")
}

/// Waits for an effect for as long as the outages of a pipeline take.
async fn patiently(what: &str, is_there: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !Box::pin(is_there()).await {
        assert!(start.elapsed() < PATIENCE, "not within {} s: {what}", PATIENCE.as_secs());
        sleep(PAUSE / 4).await;
    }
}
