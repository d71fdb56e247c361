//! A consumer that crashes halfway through its work: the next delivery finishes it.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::json;
use system_tests::{
    Person, System, eventually,
    faults::{Call, Proxy, kill, with_endpoint, with_visibility_timeout},
    turns::turn,
};
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
