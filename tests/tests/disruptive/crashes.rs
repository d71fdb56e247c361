//! A consumer that crashes halfway through its work: the next delivery finishes it. A message that crashes it every time takes no
//! other with it.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use system_tests::{
    Person, System, eventually,
    faults::{
        Call, Proxy, dead_letters, event, finally, kill, on_the_bus, with_endpoint, with_variables,
        with_visibility_timeout,
    },
    turns::turn,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

const POSTS: usize = 300;
/// The number of deleted posts at which the consumer is killed.
const DELETED: usize = 50;
/// Seconds until the message of a crashed consumer is delivered again. It is longer than the consumer may run (15 s), and
/// shorter than the template's 90 to save time.
const VISIBILITY_TIMEOUT: u32 = 20;

/// The number of an author's posts in the list.
async fn count(system: &System, author: Uuid) -> usize {
    let list = format!("/posts?limit=100&author={author}");
    let mut answer = system.get(&list).await;
    let mut count = 0;
    loop {
        assert_eq!(answer.status, 200, "{answer:?}");
        count += answer.body["items"].as_array().unwrap().len();
        let Some(cursor) = answer.body["next_cursor"].as_str() else { return count };
        answer = system.get(&format!("{list}&cursor={cursor}")).await;
    }
}

/// Whether a comment is gone: a change of it is answered with 404. The version is one that it never had, so that an existing
/// comment is not changed.
async fn is_gone(author: &Person, post: Uuid, comment: Uuid) -> bool {
    let path = format!("/posts/{post}/comments/{comment}");
    author.patch(&path, 99, &json!({"body": "So do I!"})).await.status == 404
}

#[tokio::test]
async fn all_posts_of_a_deleted_user_are_deleted_even_if_the_consumer_crashes_halfway() {
    let _turn = turn(&["posts-on-user"], &[]).await;
    let system = System::connect().await;
    let (author, reader) = tokio::join!(system.registered("Ara"), system.registered("Bada"));
    let post = author.writes_commentable_post("Post 0").await;
    let comment = reader.comments_on(post, "So do I.").await;
    assert!(!is_gone(&reader, post, comment).await);
    let titles = (1..POSTS).map(|number| format!("Post {number}"));
    let posts = stream::iter(titles).map(async |title| author.writes_post(&title).await);
    assert_eq!(posts.buffer_unordered(20).count().await, POSTS - 1);
    assert_eq!(count(&system, author.id).await, POSTS);

    let proxy = Proxy::start(&system).await;
    proxy.slow_down(Duration::from_millis(50));
    let of_author = format!("\"{}\"", author.id);
    with_visibility_timeout(&system, "posts-on-user", VISIBILITY_TIMEOUT, async || {
        with_endpoint(&system, "posts-on-user", "DYNAMODB", &proxy, async || {
            author.delete("/users/me").await.is(202, &json!(null));
            eventually("the consumer is halfway", async || {
                let deletes =
                    |call: &Call| call.operation == "PutItem" && call.input.to_string().contains(&of_author);
                (proxy.calls().iter().filter(|call| deletes(call)).count() > DELETED).then_some(())
            })
            .await;
            kill("posts-on-user").await;
            let left = count(&system, author.id).await;
            assert!(0 < left && left < POSTS, "{left} of {POSTS} posts are left");

            system.wait_until_drained("posts-on-user").await;
            eventually("all posts are gone", async || (count(&system, author.id).await == 0).then_some(()))
                .await;
        })
        .await;
    })
    .await;
    system.get(&format!("/posts/{post}")).await.is_problem(404, "not-found");
    system.wait_until_drained("comments-on-post").await;
    eventually("the comment is gone", async || is_gone(&reader, post, comment).await.then_some(())).await;
}

/// The number of deliveries in which a message kills the function. The other messages of its batch need far fewer.
const CRASHES: usize = 50;
/// Maximum wait for all of the crashes: each takes two seconds or so.
const ALL_CRASHES: Duration = Duration::from_mins(5);

/// Makes a consumer crash in the next deliveries of an event, by files in a folder: see `runtime::serve::faults`. Returns the folder of
/// the crashes that have not happened yet.
fn crash(folder: &Path, consumer: &str, event: &Value, times: usize) -> PathBuf {
    let crashes = folder.join(event["id"].as_str().unwrap()).join(consumer);
    fs::create_dir_all(&crashes).expect("a folder for faults");
    for index in 0..times {
        fs::write(crashes.join(format!("{index:02}-kill")), "").expect("a fault");
    }
    crashes
}

#[tokio::test]
async fn a_message_that_kills_the_function_fifty_times_takes_no_other_of_its_batch_with_it() {
    let _turn = turn(&["orders-on-user"], &[]).await;
    let system = System::connect().await;
    let people: Vec<Uuid> = (0..10).map(|_| Uuid::now_v7()).collect();
    let created = |id: &Uuid| event("user.created", *id, 1, &json!({"id": id, "name": "Ara"}));
    let events: Vec<Value> = people.iter().map(created).collect();
    let folder = env::temp_dir().join(format!("madang-faults-{}", Uuid::now_v7().simple()));
    let crashes = crash(&folder, "orders-on-user", &events[0], CRASHES);
    let left = || fs::read_dir(&crashes).map_or(0, Iterator::count);
    let variables = HashMap::from([("FAULTS".to_owned(), folder.to_str().unwrap().to_owned())]);
    let copied = async |id: Uuid| system.item("orders", &format!("user#{id}"), "user").await.is_some();

    let test = async {
        // One batch: all messages are there before the first delivery.
        let send = async || {
            for event in &events {
                system.send("orders-on-user", &on_the_bus(event).to_string()).await;
            }
        };
        system.without_deliveries("orders-on-user", send).await;
        for id in &people[1..] {
            eventually(&format!("the event of {id} is applied"), async || copied(*id).await.then_some(()))
                .await;
        }
        let so_far = CRASHES - left();
        assert!(0 < so_far && so_far < CRASHES, "the function has crashed {so_far} times");

        let start = Instant::now();
        while left() > 0 {
            assert!(start.elapsed() < ALL_CRASHES, "{} crashes are left", left());
            sleep(Duration::from_millis(500)).await;
        }
        system.wait_until_drained("orders-on-user").await;
        assert!(copied(people[0]).await);
        let letters = dead_letters(&system, "orders-on-user").await;
        for id in &people {
            assert!(!letters.iter().any(|body| body.contains(&id.to_string())), "{letters:?}");
        }
    };
    let test = Box::pin(test);
    let with_crashes = with_visibility_timeout(&system, "orders-on-user", 1, async || {
        with_variables(&system, &["orders-on-user"], &variables, async || test.await).await;
    });
    finally(Box::pin(with_crashes), async { drop(fs::remove_dir_all(&folder)) }).await;
}
