//! The events of orders, inventory and payments on the bus, and the notifications of buyers.

use std::{fs, path::Path, sync::Mutex};

use aws_sdk_eventbridge::types::Target;
use aws_sdk_sqs::types::QueueAttributeName;
use kernel::{clock::Timestamp, id};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Person, System, assert_json, eventually,
    faults::finally,
    shop::{CARD, DECLINED, new_sku, order, order_id, shop, usd, wait_until_settled},
};
use uuid::Uuid;

/// An event as its publisher puts it on the bus.
pub(crate) fn event(event_type: &str, subject: Uuid, sequence: u64, data: &Value) -> Value {
    let source = format!("madang.{}s", event_type.split('.').next().unwrap());
    json!({
        "specversion": "1.0", "id": id::new(), "source": source, "type": event_type, "subject": subject,
        "time": Timestamp::now(), "sequence": sequence, "schemaversion": 1, "data": data,
    })
}

/// A queue that receives the events of one aggregate from the bus.
struct Tap {
    system: System,
    queue: String,
    seen: Mutex<Vec<Value>>,
}

impl Tap {
    /// The events on the bus so far, in the order of their arrival. Asserts that each conforms to its schema.
    async fn seen(&self) -> Vec<Value> {
        let sqs = aws_sdk_sqs::Client::new(&self.system.aws);
        let receive = sqs.receive_message().queue_url(&self.queue).max_number_of_messages(10);
        let received = receive.send().await.expect("ReceiveMessage").messages.unwrap_or_default();
        for message in received {
            let delete = sqs.delete_message().queue_url(&self.queue);
            delete.receipt_handle(message.receipt_handle().unwrap()).send().await.expect("DeleteMessage");
            let entry: Value = serde_json::from_str(message.body().unwrap()).unwrap();
            let event = entry["detail"].clone();
            assert_eq!((&entry["source"], &entry["detail-type"]), (&event["source"], &event["type"]));
            assert_valid(&event);
            self.seen.lock().unwrap().push(event);
        }
        self.seen.lock().unwrap().clone()
    }

    /// Waits for these events in any order, given by type, sequence and data, and asserts that there are no others.
    async fn assert_events(&self, expected: &[(&str, u64, Value)]) {
        let mut seen = eventually(&format!("{} events are on the bus", expected.len()), async || {
            let seen = self.seen().await;
            (seen.len() >= expected.len()).then_some(seen)
        })
        .await;
        let by_type = |event: &Value| event["type"].as_str().unwrap().to_owned();
        seen.sort_by_key(by_type);
        let mut expected = expected.to_vec();
        expected.sort_by_key(|(event_type, ..)| *event_type);
        let seen: Vec<Value> =
            seen.iter().map(|event| json!([event["type"], event["sequence"], event["data"]])).collect();
        let expected: Vec<Value> =
            expected.iter().map(|(event_type, sequence, data)| json!([event_type, sequence, data])).collect();
        assert_json(&json!(seen), &json!(expected));
    }
}

/// Asserts that an event conforms to its schema in the catalogue.
fn assert_valid(event: &Value) {
    let file = format!("{}.v{}.json", event["type"].as_str().unwrap(), event["schemaversion"]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events/schemas").join(&file);
    let schema = serde_json::from_str(&fs::read_to_string(path).expect(&file)).unwrap();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    if let Err(error) = validator.validate(event) {
        panic!("{file}: {error}: {event}");
    }
}

/// Receives the events of one aggregate from the bus while `test` runs.
async fn with_tap(system: &System, subject: Uuid, test: impl AsyncFnOnce(&Tap)) {
    let sqs = aws_sdk_sqs::Client::new(&system.aws);
    let bus = aws_sdk_eventbridge::Client::new(&system.aws);
    let name = format!("tap-{}", Uuid::now_v7().simple());
    let created = sqs.create_queue().queue_name(&name).send().await.expect("CreateQueue");
    let queue = created.queue_url().unwrap().replace("localhost", "127.0.0.1");
    let arn = QueueAttributeName::QueueArn;
    let attributes = sqs.get_queue_attributes().queue_url(&queue).attribute_names(arn.clone()).send().await;
    let arn = attributes.expect("GetQueueAttributes").attributes.unwrap()[&arn].clone();
    let on_bus = system.output("event_bus");
    let pattern = json!({"detail": {"subject": [subject]}}).to_string();
    let rule = bus.put_rule().name(&name).event_bus_name(on_bus).event_pattern(pattern);
    rule.send().await.expect("PutRule");
    let target = Target::builder().id("tap").arn(arn).build().unwrap();
    let targets = bus.put_targets().rule(&name).event_bus_name(on_bus).targets(target);
    targets.send().await.expect("PutTargets");

    let tap = Tap { system: system.clone(), queue, seen: Mutex::default() };
    let remove = async {
        let targets = bus.remove_targets().rule(&name).event_bus_name(on_bus).ids("tap");
        targets.send().await.expect("RemoveTargets");
        bus.delete_rule().name(&name).event_bus_name(on_bus).send().await.expect("DeleteRule");
        sqs.delete_queue().queue_url(&tap.queue).send().await.expect("DeleteQueue");
    };
    finally(Box::pin(test(&tap)), Box::pin(remove)).await;
}

/// Places an order with an `Idempotency-Key`.
async fn place(buyer: &Person, key: &str, body: &Value) -> Uuid {
    let answer = buyer.request(Method::POST, "/orders").key(key).json(body).send().await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.id()
}

/// Waits for the notification of a type, asserts the whole of it except its message, and returns the message.
async fn notified(person: &Person, kind: &str, subject: &str) -> String {
    let notification =
        eventually(&format!("{kind} arrives"), async || person.notifications(kind).await.pop()).await;
    let expected = json!({"id": "<uuid>", "type": kind, "subject": subject, "message": "<text>", "read": false,
                          "created_at": "<time>"});
    assert_json(&notification, &expected);
    notification["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_confirmed_order_publishes_six_events_and_sends_two_notifications() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let key = new_sku("key");
    let id = order_id(&buyer, &key);
    with_tap(&system, id, async |tap| {
        assert_eq!(place(&buyer, &key, &order(&sku, 2, CARD)).await, id);
        let items = json!({"order_id": id, "items": [{"sku": sku, "quantity": 2}]});
        let amount = json!({"order_id": id, "amount": usd(900)});
        tap.assert_events(&[
            ("order.placed", 1, json!({"id": id, "buyer_id": buyer.id})),
            ("inventory.reserved", 1, items.clone()),
            ("payment.authorized", 2, amount.clone()),
            ("order.confirmed", 2, json!({"id": id, "buyer_id": buyer.id, "total": usd(900)})),
            ("payment.captured", 3, amount),
            ("inventory.committed", 2, items),
        ])
        .await;
    })
    .await;
    let message = notified(&buyer, "order_placed", "We have received your order").await;
    assert_eq!(message, format!("We have received your order {id} and are processing it."));
    let message = notified(&buyer, "order_confirmed", "Your order is confirmed").await;
    assert_eq!(message, format!("Your order {id} is confirmed and on its way."));
}

#[tokio::test]
async fn a_rejected_order_publishes_its_reason_and_notifies_the_buyer() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let key = new_sku("key");
    let id = order_id(&buyer, &key);
    with_tap(&system, id, async |tap| {
        place(&buyer, &key, &order(&sku, 2, DECLINED)).await;
        let items = json!({"order_id": id, "items": [{"sku": sku, "quantity": 2}]});
        let rejected =
            json!({"id": id, "buyer_id": buyer.id, "total": usd(900), "reason": "payment_declined"});
        tap.assert_events(&[
            ("order.placed", 1, json!({"id": id, "buyer_id": buyer.id})),
            ("inventory.reserved", 1, items.clone()),
            ("inventory.released", 2, items),
            ("order.rejected", 3, rejected),
        ])
        .await;
    })
    .await;
    let message = notified(&buyer, "order_rejected", "Your order could not be completed").await;
    let expected =
        format!("Your order {id} could not be completed: the payment was declined. No money was taken.");
    assert_eq!(message, expected);
}

#[tokio::test]
async fn an_order_that_was_never_priced_is_published_without_a_total() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let key = new_sku("key");
    let id = order_id(&buyer, &key);
    with_tap(&system, id, async |tap| {
        place(&buyer, &key, &order(&sku, 6, CARD)).await;
        tap.assert_events(&[
            ("order.placed", 1, json!({"id": id, "buyer_id": buyer.id})),
            ("order.rejected", 3, json!({"id": id, "buyer_id": buyer.id, "reason": "out_of_stock"})),
        ])
        .await;
    })
    .await;
    let message = notified(&buyer, "order_rejected", "Your order could not be completed").await;
    assert!(message.contains("an item is out of stock"), "{message}");
}

#[tokio::test]
async fn a_cancelled_order_is_published_and_notified_once() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    // An immediate cancellation usually wins.
    let mut tries = 0;
    loop {
        let key = new_sku("key");
        let id = order_id(&buyer, &key);
        let mut won = false;
        with_tap(&system, id, async |tap| {
            place(&buyer, &key, &order(&sku, 1, CARD)).await;
            let cancel = || buyer.request(Method::POST, &format!("/orders/{id}/cancel")).send();
            won = cancel().await.status == 202;
            if !won {
                return;
            }
            assert_eq!(cancel().await.status, 202);
            wait_until_settled(&system, &[id]).await;
            // Other services may have published events too: that depends on how far the saga has come.
            let events = eventually("the cancellation is on the bus", async || {
                let seen = tap.seen().await;
                let orders = seen.into_iter().filter(|event| event["source"] == "madang.orders");
                let mut orders: Vec<Value> = orders.collect();
                orders.sort_by_key(|event| event["sequence"].as_u64());
                (orders.len() >= 2).then_some(orders)
            })
            .await;
            let [placed, cancelled] = events.as_slice() else { panic!("{events:?}") };
            assert_eq!((&placed["type"], &placed["sequence"]), (&json!("order.placed"), &json!(1)));
            assert_eq!((&cancelled["type"], &cancelled["sequence"]), (&json!("order.cancelled"), &json!(2)));
            let data = json!({"id": id, "buyer_id": buyer.id, "reason": "cancelled_by_user"});
            assert_json(&cancelled["data"], &data);
        })
        .await;
        if won {
            let message = notified(&buyer, "order_cancelled", "Your order is cancelled").await;
            assert_eq!(message, format!("You have cancelled your order {id}. No money was taken."));
            system.wait_until_drained("notifications-on-order").await;
            assert_eq!(buyer.notifications("order_cancelled").await.len(), 1);
            return;
        }
        tries += 1;
        assert!(tries < 5, "a cancellation never wins");
    }
}

#[tokio::test]
async fn a_parked_order_is_published_once_and_the_buyer_is_notified_once() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let id = buyer.orders(&sku, 2, CARD).await;
    wait_until_settled(&system, &[id]).await;
    // First as an execution that gives up, then as the same execution after a redrive. Each twice.
    let park = |entry: &str| json!({"order_id": id, "error": "Test", "execution": id, "entry": entry, "traceparent": null});
    with_tap(&system, id, async |tap| {
        for _ in 0..2 {
            let answer = system.step("orders-park", &park("first")).await;
            assert_eq!(answer, Err("Order.NeedsAttention".to_owned()));
        }
        assert_eq!(buyer.get(&format!("/orders/{id}")).await.body["status"], "NEEDS_ATTENTION");
        let data = json!({"id": id, "buyer_id": buyer.id, "total": usd(900)});
        tap.assert_events(&[("order.needs_attention", 3, data)]).await;
        let message = notified(&buyer, "order_needs_attention", "Your order is delayed").await;
        let expected =
            format!("Your order {id} is taking longer than it should. Someone is looking into it.");
        assert_eq!(message, expected);

        for _ in 0..2 {
            assert_eq!(system.step("orders-park", &park("second")).await, Ok(json!({})));
        }
        assert_eq!(buyer.get(&format!("/orders/{id}")).await.body["status"], "CONFIRMED");
    })
    .await;
    assert_eq!(buyer.notifications("order_needs_attention").await.len(), 1);
}

#[tokio::test]
async fn every_step_of_payments_and_inventory_publishes_its_event_once() {
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 5).await;
    let amount = |order: Uuid| json!({"order_id": order, "amount": usd(450)});
    let items = json!([{"sku": sku, "quantity": 1}]);
    let run = async |function: &str, order: Uuid| {
        let input = json!({
            "order_id": order, "buyer_id": buyer.id, "amount": usd(450), "payment_method": CARD,
            "items": items, "expected_total": null,
            "traceparent": "00-67890abc0123456789abcdef01234567-53995c3f42cd8ad8-01",
        });
        // Twice: the repeat publishes nothing.
        for _ in 0..2 {
            system.step(function, &input).await.unwrap();
        }
    };
    let released = Uuid::now_v7();
    with_tap(&system, released, async |tap| {
        run("payments-authorize", released).await;
        run("payments-cancel", released).await;
        let expected =
            [("payment.authorized", 2, amount(released)), ("payment.cancelled", 3, amount(released))];
        tap.assert_events(&expected).await;
    })
    .await;
    let refunded = Uuid::now_v7();
    with_tap(&system, refunded, async |tap| {
        for function in [
            "payments-authorize",
            "inventory-reserve",
            "payments-capture",
            "inventory-commit",
            "payments-cancel",
            "inventory-release",
        ] {
            run(function, refunded).await;
        }
        let data = json!({"order_id": refunded, "items": items});
        tap.assert_events(&[
            ("payment.authorized", 2, amount(refunded)),
            ("payment.captured", 3, amount(refunded)),
            ("payment.refunded", 4, amount(refunded)),
            ("inventory.reserved", 1, data.clone()),
            ("inventory.committed", 2, data.clone()),
            ("inventory.released", 3, data),
        ])
        .await;
        let trace = "00-67890abc0123456789abcdef01234567-";
        let seen = tap.seen().await;
        let traced = |event: &Value| event["traceparent"].as_str().is_some_and(|it| it.starts_with(trace));
        assert!(seen.iter().all(traced), "an event is outside the order's trace: {seen:?}");
    })
    .await;
}

#[tokio::test]
async fn an_order_event_delivered_twenty_times_sends_one_notification() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    buyer.wait_for_welcome().await;
    let order = Uuid::now_v7();
    let data = json!({"id": order, "buyer_id": buyer.id, "total": usd(900)});
    let confirmed = event("order.confirmed", order, 2, &data);
    for _ in 0..20 {
        system.publish(&confirmed).await;
    }
    let outcomes = system.wait_until_consumed("notifications-on-order", &confirmed, 20).await;
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "applied").count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "already applied").count(), 19, "{outcomes:?}");
    assert_eq!(buyer.notifications("order_confirmed").await.len(), 1);
    assert_eq!(buyer.get("/notifications").await.body["unread_count"], 2);
}

/// An event about an order of this buyer at this time.
fn order_event(buyer: &Person, kind: &str, order: Uuid, sequence: u64, time: Timestamp) -> Value {
    let mut event = event(kind, order, sequence, &json!({"id": order, "buyer_id": buyer.id}));
    event["time"] = json!(time);
    event
}

/// The types of someone's notifications, in the order in which the API lists them.
async fn listed(buyer: &Person, path: &str) -> Vec<String> {
    let items = buyer.get(path).await.body["items"].clone();
    items.as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_event_that_arrives_late_is_told_with_its_time_and_at_its_place() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    buyer.wait_for_welcome().await;
    let hour_ago = Timestamp::now().plus_seconds(-3600);
    let confirmed = order_event(&buyer, "order.confirmed", Uuid::now_v7(), 2, Timestamp::now());
    let placed = order_event(&buyer, "order.placed", Uuid::now_v7(), 1, hour_ago);
    for event in [&confirmed, &placed] {
        system.publish(event).await;
        assert_eq!(system.wait_until_consumed("notifications-on-order", event, 1).await, ["applied"]);
    }
    for path in ["/notifications", "/notifications?unread=true"] {
        assert_eq!(listed(&buyer, path).await, ["order_confirmed", "welcome", "order_placed"], "{path}");
    }
    for (kind, event) in [("order_confirmed", confirmed), ("order_placed", placed)] {
        assert_eq!(buyer.notifications(kind).await[0]["created_at"], event["time"], "{kind}");
    }
    assert_eq!(buyer.get("/notifications").await.body["unread_count"], 3);
}

#[tokio::test]
async fn what_arrives_after_everything_was_marked_as_read_is_unread() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    buyer.wait_for_welcome().await;
    let placed = order_event(&buyer, "order.placed", Uuid::now_v7(), 1, Timestamp::now());
    buyer.request(Method::POST, "/notifications/read-all").send().await.is(204, &Value::Null);
    assert_eq!(buyer.get("/notifications").await.body["unread_count"], 0);
    system.publish(&placed).await;
    assert_eq!(system.wait_until_consumed("notifications-on-order", &placed, 1).await, ["applied"]);

    assert_eq!(buyer.get("/notifications").await.body["unread_count"], 1);
    let unread = buyer.get("/notifications?unread=true").await.body["items"].clone();
    assert_eq!(unread.as_array().unwrap().len(), 1, "{unread}");
    assert_eq!((&unread[0]["type"], &unread[0]["created_at"]), (&json!("order_placed"), &placed["time"]));
    buyer.request(Method::POST, "/notifications/read-all").send().await.is(204, &Value::Null);
    assert_eq!(buyer.get("/notifications").await.body["unread_count"], 0);
}

#[tokio::test]
async fn an_older_event_about_an_order_is_not_told_as_the_latest_news_and_not_mailed() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    buyer.wait_for_welcome().await;
    let wants_mail = buyer.request(Method::PUT, "/notifications/preferences").if_match(0);
    wants_mail.json(&json!({"email": true})).send().await.is(200, &json!({"email": true}));
    // The subject of such a mail, by another order.
    let placed = order_event(&buyer, "order.placed", Uuid::now_v7(), 1, Timestamp::now());
    system.publish(&placed).await;
    let subject = notified_of(&buyer, "order_placed").await;
    eventually("its mail is sent", async || system.mails(&buyer.email, &subject).await.pop()).await;

    let order = Uuid::now_v7();
    let now = Timestamp::now();
    let cancelled = order_event(&buyer, "order.cancelled", order, 2, now);
    system.publish(&cancelled).await;
    let cancellation = notified_of(&buyer, "order_cancelled").await;
    // By its time it is older or, because a clock is wrong, newer.
    for time in [now.plus_seconds(-60), Timestamp::now()] {
        let late = order_event(&buyer, "order.placed", order, 1, time);
        system.publish(&late).await;
        assert_eq!(system.wait_until_consumed("notifications-on-order", &late, 1).await, ["applied"]);
    }
    let about_it = |one: &&Value| one["message"].as_str().unwrap().contains(&order.to_string());
    let told = buyer.get("/notifications").await.body["items"].clone();
    let kinds: Vec<&Value> =
        told.as_array().unwrap().iter().filter(about_it).map(|one| &one["type"]).collect();
    assert_eq!(kinds, ["order_cancelled", "order_placed", "order_placed"]);
    eventually("the cancellation is mailed", async || system.mails(&buyer.email, &cancellation).await.pop())
        .await;
    system.wait_until_drained("notifications-email").await;
    assert_eq!(system.mails(&buyer.email, &subject).await.len(), 1);
}

#[tokio::test]
async fn a_mail_that_had_to_wait_is_not_sent_after_later_news() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    buyer.wait_for_welcome().await;
    let order = Uuid::now_v7();
    let placed = order_event(&buyer, "order.placed", order, 1, Timestamp::now());
    let cancelled = order_event(&buyer, "order.cancelled", order, 2, Timestamp::now());
    for (event, kind) in [(&placed, "order_placed"), (&cancelled, "order_cancelled")] {
        system.publish(event).await;
        notified_of(&buyer, kind).await;
    }
    // Mail is off so far. So it is as if both mails waited.
    system.wait_until_drained("notifications-email").await;
    let wants_mail = buyer.request(Method::PUT, "/notifications/preferences").if_match(0);
    wants_mail.json(&json!({"email": true})).send().await.is(200, &json!({"email": true}));
    for kind in ["order_placed", "order_cancelled"] {
        let notification = buyer.notifications(kind).await.remove(0);
        let data = json!({"id": notification["id"], "user_id": buyer.id, "type": kind});
        let id = notification["id"].as_str().unwrap().parse().unwrap();
        system.publish(&event("notification.created", id, 1, &data)).await;
        let subject = notification["subject"].as_str().unwrap();
        if kind == "order_cancelled" {
            eventually("the later one is mailed", async || system.mails(&buyer.email, subject).await.pop())
                .await;
        } else {
            system.wait_until_drained("notifications-email").await;
            assert_eq!(system.mails(&buyer.email, subject).await, Vec::<Value>::new());
        }
    }
}

/// Waits for a notification of this type, and returns its subject.
async fn notified_of(buyer: &Person, kind: &str) -> String {
    let notification =
        eventually(&format!("{kind} arrives"), async || buyer.notifications(kind).await.pop()).await;
    notification["subject"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_deleted_user_gets_no_notifications_about_orders() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    buyer.wait_for_welcome().await;
    assert_eq!(buyer.delete("/users/me").await.status, 202);
    eventually("the notifications are gone", async || {
        (buyer.get("/notifications").await.body["items"] == json!([])).then_some(())
    })
    .await;
    let order = Uuid::now_v7();
    let data = json!({"id": order, "buyer_id": buyer.id, "reason": "user_not_found"});
    let rejected = event("order.rejected", order, 3, &data);
    system.publish(&rejected).await;
    assert_eq!(system.wait_until_consumed("notifications-on-order", &rejected, 1).await, ["already applied"]);
    assert_eq!(buyer.get("/notifications").await.body["items"], json!([]));
}

#[tokio::test]
async fn malformed_messages_go_to_the_dead_letter_queues_of_orders_and_notifications() {
    let system = System::connect().await;
    for consumer in ["orders-on-user", "notifications-on-order"] {
        for poison in
            [format!("not json {}", Uuid::now_v7()), json!({"detail": {"id": id::new()}}).to_string()]
        {
            system.send(consumer, &poison).await;
            let letter = system.dead_letter(consumer, |body| body == poison).await;
            let attributes = letter.message_attributes.expect("attributes");
            let reason = attributes["reason"].string_value().expect("a reason");
            assert!(reason.starts_with("not an event: "), "{consumer}: {reason}");
        }
    }
}
