//! Alarms are able to ring: each test breaks something of the running system, and sees the metric that an alarm watches move
//! beyond its threshold. The functions' own metrics are read from the lines that they write, which is where CloudWatch
//! reads them; for AWS's own, what the local cloud has of them, or else what they count.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sfn::types::ExecutionStatus;
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use system_tests::{
    Person, System,
    alarms::{Alarm, Moment},
    eventually,
    faults::{Proxy, Refusal, dead_letters, with_endpoint, with_variables},
    shop::{CARD, DECLINED, at_rest, inject, new_sku, order, order_id, saga, usd, with_faults},
    turns::{PROCESSORS, turn},
};
use tokio::time::sleep;
use uuid::Uuid;

/// Whose metric cannot be seen here, since the local cloud does not count it. For the first four, what it would count is made to
/// happen below.
const UNSEEN: [(&str, &str); 12] = [
    ("api-5xx", "the local cloud's API Gateway publishes no metrics"),
    ("order-executions-failing", "its Step Functions publishes none either"),
    ("order-executions-cut-off", "the same"),
    ("events-waiting", "its queues do not say how old messages are"),
    ("api-slow", "the local cloud's API Gateway publishes no metrics"),
    ("users-relay-behind", "the local cloud's event source mappings publish no IteratorAge"),
    ("posts-relay-behind", "the same"),
    ("comments-relay-behind", "the same"),
    ("notifications-relay-behind", "the same"),
    ("orders-relay-behind", "the same"),
    ("inventory-relay-behind", "the same"),
    ("payments-relay-behind", "the same"),
];
/// A minute, which is what alarms on lags allow, and then some.
const OVER_A_MINUTE: Duration = Duration::from_secs(62);
/// More failures than the state machine has patience for.
const ALWAYS: [&str; 13] = ["before"; 13];

/// Waits until what a function has written of a metric since a moment makes its alarm ring.
async fn rings(system: &System, alarm: &str, function: &str, metric: &str, since: Moment) {
    let alarm = Alarm::named(alarm);
    eventually(&format!("{} rings", alarm.name), async || {
        let written = system.written(function, metric, since).await;
        alarm.metric(metric).value(&written).filter(|value| alarm.rings_at(*value))
    })
    .await;
}

/// Waits until a function has written of a metric, and asserts that its alarm does not ring of that.
async fn is_quiet(system: &System, alarm: &str, function: &str, metric: &str, since: Moment) {
    let alarm = Alarm::named(alarm);
    let value = eventually(&format!("{function} has written {metric}"), async || {
        alarm.metric(metric).value(&system.written(function, metric, since).await)
    })
    .await;
    assert!(!alarm.rings_at(value), "{} rings at {value}", alarm.name);
}

#[test]
fn every_alarm_is_made_to_ring_here_or_it_is_said_why_not() {
    let (_, tests) = include_str!("alarms.rs").split_once("\nconst OVER_A_MINUTE").unwrap();
    let named = |name: &str| {
        let ways = [format!("rings(&system, \"{name}\""), format!("rings(system, \"{name}\"")];
        ways.iter().any(|way| tests.contains(way)) || tests.contains(&format!("Alarm::named(\"{name}\")"))
    };
    let unseen: BTreeSet<&str> = UNSEEN.iter().map(|(name, _)| *name).collect();
    for Alarm { name, watched, .. } in Alarm::all() {
        let ours = watched.iter().any(|watched| watched.namespace == "Madang");
        assert!(!(ours && unseen.contains(name.as_str())), "{name} is on a metric that is written here");
        let tried = named(&name) || name.ends_with("-dead-letters") || unseen.contains(name.as_str());
        assert!(tried, "no test makes {name} ring");
    }
    let all: BTreeSet<String> = Alarm::all().into_iter().map(|alarm| alarm.name).collect();
    assert_eq!(unseen.iter().filter(|name| !all.contains(**name)).count(), 0, "an alarm that is no more");
}

#[tokio::test]
async fn orders_that_are_not_settled_ring_for_their_steps_their_executions_and_a_person() {
    // Hundreds of other orders in the same minute would hide these from a percentile.
    let alone = turn(&[PROCESSORS], &saga()).await;
    let system = System::connect().await;
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), 10).await;
    let ((placed, orders), ()) = with_faults(&system, async || {
        tokio::join!(
            three_that_cannot_be_undone(&system, &buyer, &sku),
            one_that_is_stopped(&system, &buyer, &sku)
        )
    })
    .await;
    drop(alone);

    // All injected faults are used up, so the redriven executions succeed. An order that takes over a minute settles slowly.
    sleep(OVER_A_MINUTE.saturating_sub(placed.elapsed())).await;
    let _alone = turn(&[PROCESSORS], &saga()).await;
    let redriven = Moment::now();
    let sfn = aws_sdk_sfn::Client::new(&system.aws);
    for id in &orders {
        let redrive = sfn.redrive_execution().execution_arn(system.execution(&id.to_string()));
        redrive.send().await.expect("RedriveExecution");
    }
    at_rest(&system, &orders).await;
    rings(&system, "orders-settling-slowly", "orders-reject", "SettlingTime", redriven).await;
}

/// Returns when the orders were placed, and their ids. They wait for an operator.
async fn three_that_cannot_be_undone(system: &System, buyer: &Person, sku: &str) -> (Moment, Vec<Uuid>) {
    let before = Moment::now();
    buyer.orders(sku, 1, DECLINED).await;
    is_quiet(system, "orders-settling-slowly", "orders-reject", "SettlingTime", before).await;

    let placed = Moment::now();
    let orders = join_all((0..3).map(async |_| {
        let key = new_sku("key");
        let id = order_id(buyer, &key);
        inject(id, "orders-abort", &ALWAYS);
        assert_eq!(buyer.orders_under(&key, &order(sku, 1, DECLINED)).await, id);
        id
    }))
    .await;
    rings(system, "saga-steps-failing", "orders-abort", "StepFailures", placed).await;
    // The local cloud counts no executions that fail; the alarm counts these.
    let alarm = Alarm::named("order-executions-failing");
    assert_eq!(alarm.metric("ExecutionsFailed").dimensions, ["StateMachineArn"]);
    assert!(alarm.rings_at(3.0) && !alarm.rings_at(2.0), "as many as there are orders");
    for id in &orders {
        while system.execution_status(&id.to_string()).await != Some(ExecutionStatus::Failed) {
            assert!(placed.elapsed() < Duration::from_mins(3), "{id} is parked");
            sleep(Duration::from_millis(500)).await;
        }
    }
    rings(system, "orders-parked", "orders-park", "OrdersParked", placed).await;
    (placed, orders)
}

async fn one_that_is_stopped(system: &System, buyer: &Person, sku: &str) {
    let key = new_sku("key");
    let id = order_id(buyer, &key);
    inject(id, "payments-authorize", &["hang"]);
    buyer.orders_under(&key, &order(sku, 1, CARD)).await;
    let name = id.to_string();
    eventually("it comes to the step that hangs", async || {
        system.path(&name).await.last().is_some_and(|last| last == "AuthorizePayment").then_some(())
    })
    .await;
    let sfn = aws_sdk_sfn::Client::new(&system.aws);
    sfn.stop_execution().execution_arn(system.execution(&name)).send().await.expect("StopExecution");
    // The local cloud counts no executions that are stopped; the alarm counts this one.
    let alarm = Alarm::named("order-executions-cut-off");
    assert_eq!(alarm.metric("ExecutionsAborted").dimensions, ["StateMachineArn"]);
    assert_eq!(system.execution_status(&name).await, Some(ExecutionStatus::Aborted));
    assert!(alarm.rings_at(1.0) && !alarm.rings_at(0.0));

    eventually("the next attempt begins", async || {
        system.reconcile().await;
        system.execution_status(&format!("{name}-2")).await
    })
    .await;
    at_rest(system, &[id]).await;
}

#[tokio::test]
async fn a_reconciler_that_cannot_read_its_table_rings() {
    let _turn = turn(&["orders-reconcile"], &[]).await;
    let system = System::connect().await;
    let alarm = Alarm::named("orders-reconcile-errors");
    let start = Moment::now();
    let nowhere = HashMap::from([("TABLE".to_owned(), "nowhere".to_owned())]);
    with_variables(&system, &["orders-reconcile"], &nowhere, async || {
        let lambda = aws_sdk_lambda::Client::new(&system.aws);
        let run = lambda.invoke().function_name("orders-reconcile").send().await.expect("Invoke");
        assert!(run.function_error.is_some(), "{run:?}");
        assert_eq!(alarm.metric("Errors").dimensions, ["FunctionName"]);
        eventually("the error is counted", async || {
            let errors = system.of_lambda("orders-reconcile", "Errors", start).await;
            alarm.rings_at(errors).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_bus_that_refuses_events_and_a_consumer_that_gets_none_ring_when_it_took_a_minute() {
    let _turn = turn(&["inventory-relay", "users-on-user"], &saga()).await;
    let system = System::connect().await;
    let start = Moment::now();
    let (admin, leavers) = tokio::join!(system.admin(), join_all((0..2).map(|_| system.registered("Ara"))));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), 2).await;
    let leaves = async |place: usize| leavers[place].delete("/users/me").await.is(202, &json!(null)).status;
    admin.orders(&sku, 1, CARD).await;
    leaves(0).await;
    is_quiet(&system, "events-published-late", "inventory-relay", "RelayLag", start).await;
    is_quiet(&system, "events-consumed-late", "users-on-user", "ConsumerLag", start).await;

    let proxy = Proxy::start(&system).await;
    proxy.refuse(|_| Some(Refusal::throttled()));
    with_endpoint(&system, "inventory-relay", "EVENTBRIDGE", &proxy, async || {
        let waiting = async || {
            admin.orders(&sku, 1, CARD).await;
            leaves(1).await;
            eventually("the relay tries", async || (!proxy.calls().is_empty()).then_some(())).await;
            let waits = async || (system.depth("users-on-user").await > 0).then_some(());
            eventually("the event waits", waits).await;
            sleep(OVER_A_MINUTE).await;
            // The local cloud does not say how old messages are: that they wait is all that is seen.
            let alarm = Alarm::named("events-waiting");
            assert!(alarm.watched.iter().all(|queue| queue.metric == "ApproximateAgeOfOldestMessage"));
            assert_eq!(waits().await, Some(()));
        };
        system.without_deliveries("users-on-user", waiting).await;
        proxy.let_go();
        rings(&system, "events-published-late", "inventory-relay", "RelayLag", start).await;
        rings(&system, "events-consumed-late", "users-on-user", "ConsumerLag", start).await;
    })
    .await;
}

#[tokio::test]
async fn a_consumer_whose_table_refuses_rings_before_anything_is_given_up() {
    let _turn = turn(&["posts-on-user"], &[]).await;
    let system = System::connect().await;
    let start = Moment::now();
    let proxy = Proxy::start(&system).await;
    proxy.refuse(|_| Some(Refusal::throttled()));
    with_endpoint(&system, "posts-on-user", "DYNAMODB", &proxy, async || {
        let people = join_all((0..20).map(|_| system.registered("Ara"))).await;
        rings(&system, "consumers-failing", "posts-on-user", "ConsumerFailures", start).await;
        proxy.let_go();
        system.worked_off("posts-on-user").await;
        let given_up = dead_letters(&system, "posts-on-user").await;
        for person in people {
            let id = person.id.to_string();
            assert!(!given_up.iter().any(|body| body.contains(&id)), "{given_up:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_mail_service_that_refuses_rings() {
    let _turn = turn(&["notifications-email"], &[]).await;
    let system = System::connect().await;
    let (author, reader) = tokio::join!(system.registered("Ara"), system.registered("Bada"));
    author.is_welcomed().await;
    let preferences = author.request(Method::PUT, "/notifications/preferences").if_match(0);
    preferences.json(&json!({"email": true})).send().await.is(200, &json!({"email": true}));
    let post = author.writes_known_post("Spring").await;
    let alarm = Alarm::named("emails-failing");
    let start = Moment::now();
    let proxy = Proxy::start(&system).await;
    let email = author.email.clone();
    proxy.refuse(move |_| Some(Refusal::rejected(&email)));
    with_endpoint(&system, "notifications-email", "SESV2", &proxy, async || {
        for _ in 0..3 {
            reader.comments_on(post, "So do I.").await;
        }
        let count = async |metric: &str| {
            let written = system.written("notifications-email", metric, start).await;
            alarm.metric(metric).value(&written).unwrap_or_default()
        };
        eventually("emails-failing rings", async || {
            let (failed, sent) = (count("EmailsFailed").await, count("EmailsSent").await);
            // What the alarm's expression makes of them; tests/templates evaluates that one itself.
            (failed >= 3.0 && alarm.rings_at(100.0 * failed / (failed + sent))).then_some(())
        })
        .await;
        proxy.let_go();
        eventually("the mails go out", async || (count("EmailsSent").await >= 3.0).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn a_service_that_is_gone_rings_for_the_calls_and_for_the_answers_of_who_calls() {
    let _turn = turn(&["posts-author"], &[]).await;
    let system = System::connect().await;
    let author = system.registered("Ara").await;
    let path = format!("/posts/{}/author", author.writes_post("Spring").await);
    let lookup = "arn:aws:lambda:us-east-1:000000000000:function:nobody";
    let gone = HashMap::from([
        ("DISCOVERY".to_owned(), "static".to_owned()),
        ("USERS_LOOKUP".to_owned(), lookup.to_owned()),
    ]);
    let start = Moment::now();
    with_variables(&system, &["posts-author"], &gone, async || {
        for _ in 0..5 {
            system.get(&path).await.is_problem(503, "unavailable");
        }
        rings(&system, "calls-failing", "posts-author", "CallFailures", start).await;
        // The local cloud counts no answers of the API; those above are what the alarm counts: five of five.
        let alarm = Alarm::named("api-5xx");
        assert_eq!(alarm.metric("5xx").dimensions, ["ApiId"]);
        assert!(alarm.rings_at(100.0) && !alarm.rings_at(0.0));
    })
    .await;
    assert_eq!(system.get(&path).await.status, 200);
}

#[tokio::test]
async fn a_function_that_lambda_does_not_run_rings() {
    let _turn = turn(&["users-update"], &[]).await;
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let alarm = Alarm::named("functions-throttled");
    let start = Moment::now();
    system
        .with_function_throttled("users-update", async || {
            let answer = person.patch("/users/me", 1, &json!({"name": "Bada"})).await;
            assert!(!answer.status.is_success(), "{answer:?}");
            eventually("the throttle is counted", async || {
                // The local cloud has it by function only; the alarm takes the sum of all.
                assert_eq!(alarm.metric("Throttles").dimensions, Vec::<String>::new());
                alarm.rings_at(system.of_lambda("users-update", "Throttles", start).await).then_some(())
            })
            .await;
        })
        .await;
}

#[tokio::test]
async fn rubbish_in_a_queue_rings_for_its_dead_letter_queue() {
    let system = System::connect().await;
    let alarms = Alarm::all().into_iter().filter(|alarm| alarm.name.ends_with("-dead-letters"));
    let of_consumers: Vec<Alarm> = alarms.filter(|alarm| !alarm.name.contains("-relay-")).collect();
    assert_eq!(of_consumers.len(), 9);
    let _turn = turn(&[], &of_consumers.iter().map(consumer).collect::<Vec<_>>()).await;
    join_all(of_consumers.iter().map(async |alarm| {
        let queue = consumer(alarm);
        let rubbish = format!("rubbish {}", Uuid::now_v7());
        system.send(queue, &rubbish).await;
        is_dead_letter(&system, alarm, queue, &rubbish).await;
    }))
    .await;
}

#[tokio::test]
async fn rubbish_in_an_outbox_rings_for_its_relays_dead_letter_queue() {
    let system = System::connect().await;
    let alarms = Alarm::all().into_iter().filter(|alarm| alarm.name.ends_with("-relay-dead-letters"));
    let of_relays: Vec<Alarm> = alarms.collect();
    assert_eq!(of_relays.len(), 7);
    let _turn = turn(&[], &of_relays.iter().map(consumer).collect::<Vec<_>>()).await;
    let dynamodb = aws_sdk_dynamodb::Client::new(&system.aws);
    join_all(of_relays.iter().map(async |alarm| {
        let relay = consumer(alarm);
        let table = relay.strip_suffix("-relay").unwrap();
        let id = Uuid::now_v7().to_string();
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let outbox = AttributeValue::M(HashMap::from([("id".to_owned(), text(&id))]));
        let (pk, sk) = (text(&format!("rubbish#{id}")), text("rubbish"));
        let put = dynamodb.put_item().table_name(table).item("pk", pk.clone()).item("sk", sk.clone());
        put.item("outbox", outbox).send().await.expect("PutItem");
        is_dead_letter(&system, alarm, relay, &id).await;
        dynamodb
            .delete_item()
            .table_name(table)
            .key("pk", pk)
            .key("sk", sk)
            .send()
            .await
            .expect("DeleteItem");
    }))
    .await;
}

/// The function whose dead-letter queue an alarm watches.
fn consumer(alarm: &Alarm) -> &str {
    alarm.name.strip_suffix("-dead-letters").unwrap()
}

/// Waits until a dead-letter queue holds enough to ring its alarm, and takes the letter with this text out of it.
async fn is_dead_letter(system: &System, alarm: &Alarm, function: &str, text: &str) {
    assert_eq!(alarm.metric("ApproximateNumberOfMessagesVisible").dimensions, ["QueueName"]);
    eventually(&format!("{} rings", alarm.name), async || {
        alarm.rings_at(f64::from(system.depth(&alarm.name).await)).then_some(())
    })
    .await;
    system.dead_letter(function, |body| body.contains(text)).await;
}
