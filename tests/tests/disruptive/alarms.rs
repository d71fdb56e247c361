//! Every alarm can ring: each test breaks part of the running system and sees that a metric breaches the threshold of its
//! alarm. The functions' metrics are read from their logs, as CloudWatch reads them. AWS's own metrics are those of the local
//! cloud. If it lacks one, the test looks at what the metric would count.

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
    faults::{Changes, Proxy, Refusal, dead_letters, retries::Retries, with_endpoint, with_variables},
    shop::{CARD, DECLINED, inject, new_sku, order, order_id, saga, usd, wait_until_settled, with_faults},
    turns::{PROCESSORS, turn},
};
use tokio::time::sleep;
use uuid::Uuid;

/// The alarms whose metrics the local cloud lacks, with the reason. The tests below still cause what the first four would
/// count.
const UNSEEN: [(&str, &str); 12] = [
    ("api-5xx", "the local cloud's API Gateway publishes no metrics"),
    ("order-executions-failing", "the local cloud's Step Functions publishes no metrics"),
    ("order-executions-cut-off", "the local cloud's Step Functions publishes no metrics"),
    ("events-waiting", "the local cloud's queues publish no age of messages"),
    ("api-slow", "the local cloud's API Gateway publishes no metrics"),
    ("users-relay-behind", "the local cloud's event source mappings publish no IteratorAge"),
    ("posts-relay-behind", "the same"),
    ("comments-relay-behind", "the same"),
    ("notifications-relay-behind", "the same"),
    ("orders-relay-behind", "the same"),
    ("inventory-relay-behind", "the same"),
    ("payments-relay-behind", "the same"),
];
/// A little more than the minute that the alarms on lags allow.
const OVER_A_MINUTE: Duration = Duration::from_secs(62);

/// Waits until the values of a metric that a function has emitted since a moment make the alarm ring.
async fn rings(system: &System, alarm: &str, function: &str, metric: &str, since: Moment) {
    let alarm = Alarm::named(alarm);
    eventually(&format!("{} rings", alarm.name), async || {
        let emitted = system.emitted(function, metric, since).await;
        alarm.metric(metric).value(&emitted).filter(|value| alarm.rings_at(*value))
    })
    .await;
}

/// Waits until a function has emitted a metric, and asserts that its values do not make the alarm ring.
async fn is_quiet(system: &System, alarm: &str, function: &str, metric: &str, since: Moment) {
    let alarm = Alarm::named(alarm);
    let value = eventually(&format!("{function} has emitted {metric}"), async || {
        alarm.metric(metric).value(&system.emitted(function, metric, since).await)
    })
    .await;
    assert!(!alarm.rings_at(value), "{} rings at {value}", alarm.name);
}

#[test]
fn every_alarm_has_a_test_that_makes_it_ring_or_a_reason_why_not() {
    let (_, tests) = include_str!("alarms.rs").split_once("\nconst OVER_A_MINUTE").unwrap();
    let rung = |name: &str| {
        let calls = [format!("rings(&system, \"{name}\""), format!("rings(system, \"{name}\"")];
        calls.iter().any(|call| tests.contains(call)) || tests.contains(&format!("Alarm::named(\"{name}\")"))
    };
    let unseen: BTreeSet<&str> = UNSEEN.iter().map(|(name, _)| *name).collect();
    for Alarm { name, watched, .. } in Alarm::all() {
        let emitted = watched.iter().any(|watched| watched.namespace == "Madang");
        assert!(!(emitted && unseen.contains(name.as_str())), "{name} watches a metric that is emitted here");
        let tested = rung(&name) || name.ends_with("-dead-letters") || unseen.contains(name.as_str());
        assert!(tested, "no test makes {name} ring");
    }
    let all: BTreeSet<String> = Alarm::all().into_iter().map(|alarm| alarm.name).collect();
    assert_eq!(
        unseen.iter().filter(|name| !all.contains(**name)).count(),
        0,
        "UNSEEN names an alarm that does not exist"
    );
}

#[tokio::test]
async fn unsettled_orders_ring_the_alarms_of_steps_executions_and_parked_orders() {
    // Hundreds of other orders in the same minute would hide these from a percentile.
    let alone = turn(&[PROCESSORS], &saga()).await;
    let system = System::connect().await;
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), 10).await;
    let ((placed, orders), ()) = with_faults(&system, async || {
        tokio::join!(park_three_orders(&system, &buyer, &sku), stop_one_order(&system, &buyer, &sku))
    })
    .await;
    drop(alone);

    // All injected faults are used up, so the redriven executions succeed. An order that took over a minute has settled
    // slowly.
    sleep(OVER_A_MINUTE.saturating_sub(placed.elapsed())).await;
    let _alone = turn(&[PROCESSORS], &saga()).await;
    let redriven = Moment::now();
    let sfn = aws_sdk_sfn::Client::new(&system.aws);
    for id in &orders {
        let redrive = sfn.redrive_execution().execution_arn(system.execution(&id.to_string()));
        redrive.send().await.expect("RedriveExecution");
    }
    wait_until_settled(&system, &orders).await;
    rings(&system, "orders-settling-slowly", "orders-reject", "SettlingTime", redriven).await;
}

/// Places three orders whose compensations fail, so that they wait for an operator. Returns when they were placed, and their
/// ids.
async fn park_three_orders(system: &System, buyer: &Person, sku: &str) -> (Moment, Vec<Uuid>) {
    let before = Moment::now();
    buyer.orders(sku, 1, DECLINED).await;
    is_quiet(system, "orders-settling-slowly", "orders-reject", "SettlingTime", before).await;

    let placed = Moment::now();
    let retries = Retries::of("orders-abort", "Transient");
    let orders = join_all((0..3).map(async |_| {
        let key = new_sku("key");
        let id = order_id(buyer, &key);
        inject(id, "orders-abort", &vec!["before"; retries.invocations]);
        assert_eq!(buyer.orders_with_key(&key, &order(sku, 1, DECLINED)).await, id);
        id
    }))
    .await;
    rings(system, "saga-steps-failing", "orders-abort", "StepFailures", placed).await;
    // The local cloud does not count failed executions. On AWS the alarm's metric would count these three.
    let alarm = Alarm::named("order-executions-failing");
    assert_eq!(alarm.metric("ExecutionsFailed").dimensions, ["StateMachineArn"]);
    assert!(alarm.rings_at(3.0) && !alarm.rings_at(2.0), "the threshold is not three");
    for id in &orders {
        while system.execution_status(&id.to_string()).await != Some(ExecutionStatus::Failed) {
            assert!(placed.elapsed() < retries.pauses + Duration::from_mins(3), "{id} is not parked");
            sleep(Duration::from_millis(500)).await;
        }
    }
    rings(system, "orders-parked", "orders-park", "OrdersParked", placed).await;
    (placed, orders)
}

/// Stops the execution of an order, which another execution then settles.
async fn stop_one_order(system: &System, buyer: &Person, sku: &str) {
    let key = new_sku("key");
    let id = order_id(buyer, &key);
    inject(id, "payments-authorize", &["hang"]);
    buyer.orders_with_key(&key, &order(sku, 1, CARD)).await;
    let name = id.to_string();
    eventually("the execution reaches the step that hangs", async || {
        system.path(&name).await.last().is_some_and(|last| last == "AuthorizePayment").then_some(())
    })
    .await;
    let sfn = aws_sdk_sfn::Client::new(&system.aws);
    sfn.stop_execution().execution_arn(system.execution(&name)).send().await.expect("StopExecution");
    // The local cloud does not count stopped executions. On AWS the alarm's metric would count this one.
    let alarm = Alarm::named("order-executions-cut-off");
    assert_eq!(alarm.metric("ExecutionsAborted").dimensions, ["StateMachineArn"]);
    assert_eq!(system.execution_status(&name).await, Some(ExecutionStatus::Aborted));
    assert!(alarm.rings_at(1.0) && !alarm.rings_at(0.0));

    eventually("the next execution starts", async || {
        system.reconcile().await;
        system.execution_status(&format!("{name}-2")).await
    })
    .await;
    wait_until_settled(system, &[id]).await;
}

#[tokio::test]
async fn an_alarm_rings_if_the_reconciler_cannot_read_its_table() {
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
            let errors = system.lambda_sum("orders-reconcile", "Errors", start).await;
            alarm.rings_at(errors).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn alarms_ring_if_events_are_published_or_consumed_a_minute_late() {
    let _turn = turn(&["inventory-relay", "users-on-user"], &saga()).await;
    let system = System::connect().await;
    let start = Moment::now();
    let (admin, leavers) = tokio::join!(system.admin(), join_all((0..2).map(|_| system.registered("Ara"))));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), 2).await;
    let leaves = async |index: usize| leavers[index].delete("/users/me").await.is(202, &json!(null)).status;
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
            eventually("the event waits in the queue", waits).await;
            sleep(OVER_A_MINUTE).await;
            // The local cloud does not publish the age of messages. All that can be seen is that they wait.
            let alarm = Alarm::named("events-waiting");
            assert!(alarm.watched.iter().all(|queue| queue.metric == "ApproximateAgeOfOldestMessage"));
            assert_eq!(waits().await, Some(()));
        };
        system.without_deliveries("users-on-user", waiting).await;
        proxy.allow_all();
        rings(&system, "events-published-late", "inventory-relay", "RelayLag", start).await;
        rings(&system, "events-consumed-late", "users-on-user", "ConsumerLag", start).await;
    })
    .await;
}

#[tokio::test]
async fn an_alarm_rings_for_a_throttled_consumer_before_any_event_is_a_dead_letter() {
    let _turn = turn(&["posts-on-user"], &[]).await;
    let system = System::connect().await;
    let start = Moment::now();
    let proxy = Proxy::start(&system).await;
    proxy.refuse(|_| Some(Refusal::throttled()));
    // Ten minutes take six seconds.
    let hurried = Changes::endpoint("DYNAMODB", &proxy).with("TIME_SCALE", "0.01").variables;
    with_variables(&system, &["posts-on-user"], &hurried, async || {
        let people = join_all((0..3).map(|_| system.registered("Ara"))).await;
        rings(&system, "consumers-failing", "posts-on-user", "RetryAge", start).await;
        proxy.allow_all();
        system.wait_until_drained("posts-on-user").await;
        let letters = dead_letters(&system, "posts-on-user").await;
        for person in people {
            let id = person.id.to_string();
            assert!(!letters.iter().any(|body| body.contains(&id)), "{letters:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_alarm_rings_if_ses_rejects_mails() {
    let _turn = turn(&["notifications-email"], &[]).await;
    let system = System::connect().await;
    let (author, reader) = tokio::join!(system.registered("Ara"), system.registered("Bada"));
    author.wait_for_welcome().await;
    let preferences = author.request(Method::PUT, "/notifications/preferences").if_match(0);
    preferences.json(&json!({"email": true})).send().await.is(200, &json!({"email": true}));
    let post = author.writes_commentable_post("Spring").await;
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
            let emitted = system.emitted("notifications-email", metric, start).await;
            alarm.metric(metric).value(&emitted).unwrap_or_default()
        };
        eventually("emails-failing rings", async || {
            let (failed, sent) = (count("EmailsFailed").await, count("EmailsSent").await);
            // The alarm's expression, calculated by hand. tests/templates evaluates the expression itself.
            (failed >= 3.0 && alarm.rings_at(100.0 * failed / (failed + sent))).then_some(())
        })
        .await;
        proxy.allow_all();
        eventually("the mails are sent", async || (count("EmailsSent").await >= 3.0).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn alarms_ring_for_failing_calls_and_5xx_answers_if_a_service_is_gone() {
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
        // The local cloud does not count the API's answers. On AWS the alarm's metric would count the five above: all of them
        // failed.
        let alarm = Alarm::named("api-5xx");
        assert_eq!(alarm.metric("5xx").dimensions, ["ApiId"]);
        assert!(alarm.rings_at(100.0) && !alarm.rings_at(0.0));
    })
    .await;
    assert_eq!(system.get(&path).await.status, 200);
}

#[tokio::test]
async fn an_alarm_rings_if_lambda_throttles_a_function() {
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
                // The alarm watches the sum over all functions, but the local cloud counts by function only.
                assert_eq!(alarm.metric("Throttles").dimensions, Vec::<String>::new());
                alarm.rings_at(system.lambda_sum("users-update", "Throttles", start).await).then_some(())
            })
            .await;
        })
        .await;
}

#[tokio::test]
async fn a_malformed_message_rings_the_alarm_of_the_dead_letter_queue() {
    let system = System::connect().await;
    let alarms = Alarm::all().into_iter().filter(|alarm| alarm.name.ends_with("-dead-letters"));
    let of_consumers: Vec<Alarm> = alarms.filter(|alarm| !alarm.name.contains("-relay-")).collect();
    assert_eq!(of_consumers.len(), 9);
    let _turn = turn(&[], &of_consumers.iter().map(consumer).collect::<Vec<_>>()).await;
    join_all(of_consumers.iter().map(async |alarm| {
        let queue = consumer(alarm);
        let malformed = format!("malformed {}", Uuid::now_v7());
        system.send(queue, &malformed).await;
        rings_for_dead_letter(&system, alarm, queue, &malformed).await;
    }))
    .await;
}

#[tokio::test]
async fn a_malformed_outbox_rings_the_alarm_of_the_relays_dead_letter_queue() {
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
        let (pk, sk) = (text(&format!("malformed#{id}")), text("malformed"));
        let put = dynamodb.put_item().table_name(table).item("pk", pk.clone()).item("sk", sk.clone());
        put.item("outbox", outbox).send().await.expect("PutItem");
        rings_for_dead_letter(&system, alarm, relay, &id).await;
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

/// Waits until a dead-letter queue makes its alarm ring, and takes the message with this text out of it.
async fn rings_for_dead_letter(system: &System, alarm: &Alarm, function: &str, text: &str) {
    assert_eq!(alarm.metric("ApproximateNumberOfMessagesVisible").dimensions, ["QueueName"]);
    eventually(&format!("{} rings", alarm.name), async || {
        alarm.rings_at(f64::from(system.depth(&alarm.name).await)).then_some(())
    })
    .await;
    system.dead_letter(function, |body| body.contains(text)).await;
}
