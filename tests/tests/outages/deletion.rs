//! A user with thousands of posts leaves while the table of `posts-on-user` throttles every second call.
//!
//! More items of a page fail than are changed, and so do many of the cascade's own reads. Nevertheless it finishes: every pass
//! leaves fewer posts, and a pass that leaves as many is repeated.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, KeysAndAttributes, PutRequest, Select, WriteRequest},
};
use serde_json::{Value, json};
use system_tests::{
    Person, System, eventually,
    faults::{Call, Changes, Fate, Proxy, Refusal, with_variables},
    turns::{CLOUD, turn},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::outage::{dead_letters, dead_letters_since};

const POSTS: usize = 3_000;
/// How long a second of the consumer's retries takes here.
const TIME_SCALE: &str = "0.01";
/// Maximum wait for the deletion of all posts, and then for its effects on comments.
const PATIENCE: Duration = Duration::from_mins(20);
/// The time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// The maximum number of items that `BatchWriteItem` writes, and `BatchGetItem` reads.
const WRITTEN_AT_ONCE: usize = 25;
const READ_AT_ONCE: usize = 100;

type Item = HashMap<String, AttributeValue>;

/// The events of deleted posts: for each post the ids of those that were published.
type Events = BTreeMap<Uuid, BTreeSet<String>>;

/// What the proxies have seen.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Calls of the table, and how many of them were throttled.
    calls: usize,
    throttled: usize,
    /// Messages that the cascade has sent to its queue to continue.
    messages: usize,
    /// Deliveries that failed.
    failed: usize,
    published: Events,
}

/// Throttles the calls of a table, every other one on average.
fn throttle_half(table: &Proxy, seen: &Arc<Mutex<Seen>>) {
    let seen = Arc::clone(seen);
    table.decide(move |_| {
        let mut seen = seen.lock().unwrap();
        seen.calls += 1;
        if fastrand::bool() {
            return Fate::Pass;
        }
        seen.throttled += 1;
        Fate::Refuse(Refusal::throttled())
    });
}

/// Counts the consumer's calls of its queue.
fn count_messages(queue: &Proxy, seen: &Arc<Mutex<Seen>>) {
    let seen = Arc::clone(seen);
    queue.decide(move |call| {
        let mut seen = seen.lock().unwrap();
        match call.operation.as_str() {
            "SendMessage" => seen.messages += 1,
            "ChangeMessageVisibility" => seen.failed += 1,
            _ => {}
        }
        Fate::Pass
    });
}

/// Remembers the events that the relay publishes.
fn watch_bus(bus: &Proxy, seen: &Arc<Mutex<Seen>>) {
    let seen = Arc::clone(seen);
    bus.decide(move |call| {
        let mut seen = seen.lock().unwrap();
        for (post, event) in deleted_posts(call) {
            seen.published.entry(post).or_default().insert(event);
        }
        Fate::Pass
    });
}

/// The posts of the `post.deleted` in a call of `PutEvents`, with the events' ids.
fn deleted_posts(call: &Call) -> Vec<(Uuid, String)> {
    let entries = call.input["Entries"].as_array().into_iter().flatten();
    let deleted = entries.filter(|entry| entry["DetailType"] == "post.deleted");
    let read = |entry: &Value| {
        let event: Value = serde_json::from_str(entry["Detail"].as_str()?).ok()?;
        Some((event["subject"].as_str()?.parse().ok()?, event["id"].as_str()?.to_owned()))
    };
    deleted.map(|entry| read(entry).unwrap_or_else(|| panic!("not an event: {entry}"))).collect()
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn key(post: Uuid) -> Item {
    [("pk".to_owned(), text(format!("post#{post}"))), ("sk".to_owned(), text("post"))].into()
}

/// Writes copies of a person's post until there are [`POSTS`], and returns the ids of all. The copies have no outbox, because
/// thousands of `post.created` would only be in the way.
async fn fill(person: &Person, client: &Client) -> Vec<Uuid> {
    let original = person.writes_commentable_post("Spring").await;
    let get = client.get_item().table_name("posts").set_key(Some(key(original))).consistent_read(true);
    let mut item = get.send().await.expect("GetItem").item.expect("the post");
    item.remove("outbox").expect("an outbox");
    let created_at = item["created_at"].as_s().expect("a time").clone();
    let copies: Vec<Uuid> = (1..POSTS).map(|_| Uuid::now_v7()).collect();
    for ids in copies.chunks(WRITTEN_AT_ONCE) {
        let writes = ids.iter().map(|id| {
            let mut copy = item.clone();
            copy.extend(key(*id));
            copy.insert("id".to_owned(), text(*id));
            // The sort key of the indexes.
            copy.insert("created".to_owned(), text(format!("{created_at}#{id}")));
            let put = PutRequest::builder().set_item(Some(copy)).build().expect("an item");
            WriteRequest::builder().put_request(put).build()
        });
        let write = client.batch_write_item().request_items("posts", writes.collect());
        let left = write.send().await.expect("BatchWriteItem").unprocessed_items;
        assert!(left.unwrap_or_default().is_empty());
    }
    [vec![original], copies].concat()
}

/// The number of an author's posts in the index that the cascade reads.
async fn listed(client: &Client, author: Uuid) -> i32 {
    let (mut count, mut start) = (0, None);
    loop {
        let query = client.query().table_name("posts").index_name("by_author").select(Select::Count);
        let query = query.key_condition_expression("author_id = :author");
        let query = query.expression_attribute_values(":author", text(author)).set_exclusive_start_key(start);
        let page = query.send().await.expect("Query");
        count += page.count;
        start = page.last_evaluated_key;
        if start.is_none() {
            return count;
        }
    }
}

/// The items of posts.
async fn stored(client: &Client, posts: &[Uuid]) -> Vec<Value> {
    let mut stored = Vec::new();
    for ids in posts.chunks(READ_AT_ONCE) {
        let keys = ids.iter().map(|id| key(*id)).collect();
        let keys = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let get = client.batch_get_item().request_items("posts", keys.expect("keys"));
        let mut found = get.send().await.expect("BatchGetItem").responses.expect("items");
        let items = found.remove("posts").expect("the table").into_iter();
        stored.extend(items.map(|item| serde_dynamo::from_item::<_, Value>(item).expect("an item as JSON")));
    }
    stored
}

/// Asserts that each post is a tombstone, and that its one event was published. An event that was published twice is still one.
fn assert_each_is_deleted_once(posts: &[Uuid], stored: &[Value], published: &Events) {
    let tombstones: Events = stored
        .iter()
        .map(|item| {
            let event = &item["outbox"];
            let selected = json!([item["state"], item["version"], event["type"], event["sequence"]]);
            assert_eq!(selected, json!(["deleted", 2, "post.deleted", 2]), "{item}");
            assert!(item["author_id"].is_null() && item["body"].is_null(), "{item}");
            let post = event["subject"].as_str().and_then(|post| post.parse().ok()).expect("a post");
            (post, BTreeSet::from([event["id"].as_str().expect("an id").to_owned()]))
        })
        .collect();
    assert!(tombstones.keys().eq(&posts.iter().copied().collect::<BTreeSet<_>>()));
    for (post, events) in &tombstones {
        assert_eq!(published.get(post), Some(events), "{post}");
    }
}

/// Waits until something is done, and prints the progress meanwhile.
async fn patiently(what: &str, progress: impl AsyncFn() -> (bool, String)) {
    let start = Instant::now();
    loop {
        let (done, progress) = Box::pin(progress()).await;
        println!("{:>4} s: {progress}", start.elapsed().as_secs());
        if done {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not within {} min: {what}", PATIENCE.as_secs() / 60);
        sleep(PROGRESS).await;
    }
}

/// Deletes the person, and waits until all posts are deleted and their events are published.
async fn leave(person: &Person, posts: &[Uuid], client: &Client, seen: &Mutex<Seen>) {
    person.delete("/users/me").await.is(202, &Value::Null);
    patiently("the posts are deleted", async || {
        let left = listed(client, person.id).await;
        // The pass that looks for posts that were written meanwhile is over, too.
        let waiting = person.system.depth("posts-on-user").await;
        let Seen { calls, throttled, messages, failed, published } = seen.lock().unwrap().clone();
        let published = posts.iter().filter(|post| published.contains_key(post)).count();
        let progress = format!(
            "{left} posts left, {published} events published; 1 + {messages} messages, {failed} failed deliveries; \
             {throttled} of {calls} calls of the table throttled"
        );
        (left == 0 && waiting == 0 && published == POSTS, progress)
    })
    .await;
    patiently("comments has heard of every deletion", async || {
        let waiting = person.system.depth("comments-on-post").await;
        (waiting == 0, format!("{waiting} messages for comments-on-post"))
    })
    .await;
}

#[tokio::test]
#[ignore = "takes minutes, and needs the system for itself"]
async fn a_deletion_of_3000_posts_finishes_although_the_table_throttles_every_second_call() {
    let _alone = turn(&[CLOUD], &[]).await;
    let system = System::connect().await;
    let client = Client::new(&system.aws);
    let person = system.registered("Ara").await;
    person.wait_for_welcome().await;
    let posts = fill(&person, &client).await;
    let all = i32::try_from(POSTS).unwrap();
    eventually("every post is listed", async || (listed(&client, person.id).await == all).then_some(()))
        .await;
    let before = dead_letters(&system).await;

    let seen = Arc::new(Mutex::new(Seen::default()));
    let (table, queue, bus) =
        (Proxy::start(&system).await, Proxy::start(&system).await, Proxy::start(&system).await);
    throttle_half(&table, &seen);
    count_messages(&queue, &seen);
    watch_bus(&bus, &seen);
    let consumer = Changes::endpoint("DYNAMODB", &table)
        .with("AWS_ENDPOINT_URL_SQS", &queue.url)
        .with("TIME_SCALE", TIME_SCALE);
    let relay = Changes::endpoint("EVENTBRIDGE", &bus);
    with_variables(&system, &["posts-on-user"], &consumer.variables, async || {
        with_variables(&system, &["posts-relay"], &relay.variables, async || {
            Box::pin(leave(&person, &posts, &client, &seen)).await;
        })
        .await;
    })
    .await;

    let seen = seen.lock().unwrap().clone();
    assert_each_is_deleted_once(&posts, &stored(&client, &posts).await, &seen.published);
    let list = format!("/posts?author={}", person.id);
    system.get(&list).await.is(200, &json!({"items": [], "next_cursor": null}));
    assert_eq!(dead_letters_since(&system, &before).await, Vec::<String>::new(), "dead letters");
    // One half, give or take what chance allows.
    assert!(seen.throttled * 100 / seen.calls >= 45, "{} of {} throttled", seen.throttled, seen.calls);
    println!(
        "{POSTS} posts were deleted with 1 + {} messages, {} failed deliveries and {} calls of the table, {} of which were throttled",
        seen.messages, seen.failed, seen.calls, seen.throttled
    );
}
