//! The effects of events. Each takes place once, in whatever order and however often the events arrive.

use kernel::{clock::Timestamp, id};
use serde_json::{Value, json};
use system_tests::{System, eventually};
use uuid::Uuid;

/// An event as its publisher puts it on the bus.
fn event(event_type: &str, subject: Uuid, sequence: u64, data: &Value) -> Value {
    let source = format!("madang.{}s", event_type.split('.').next().unwrap());
    json!({
        "specversion": "1.0", "id": id::new(), "source": source, "type": event_type, "subject": subject,
        "time": Timestamp::now(), "sequence": sequence, "schemaversion": 1, "data": data,
    })
}

fn named(event_type: &str, id: Uuid, sequence: u64, name: &str) -> Value {
    event(event_type, id, sequence, &json!({"id": id, "name": name}))
}

fn titled(event_type: &str, id: Uuid, sequence: u64) -> Value {
    event(event_type, id, sequence, &json!({"id": id, "author_id": Uuid::now_v7(), "title": "Made up"}))
}

/// Waits until the comments service knows a post.
async fn is_known(system: &System, post: Uuid) {
    eventually("the post is known", async || {
        (system.get(&format!("/posts/{post}/comments")).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_name_reaches_posts_and_comments() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_commentable_post("Spring").await;
    ara.comments_on(post, "Mine.").await;
    assert_eq!(ara.patch("/users/me", 1, &json!({"name": "Areum"})).await.status, 200);

    let expected = json!({"id": ara.id, "name": "Areum"});
    eventually("the post has the new name", async || {
        (system.get(&format!("/posts/{post}")).await.body["author"] == expected).then_some(())
    })
    .await;
    eventually("the comment has the new name", async || {
        let comments = system.get(&format!("/posts/{post}/comments")).await;
        (comments.body["items"][0]["author"] == expected).then_some(())
    })
    .await;
    // The copy of the name is not part of the post's version.
    assert_eq!(system.get(&format!("/posts/{post}")).await.body["version"], 1);
    assert_eq!(ara.post("/posts", &json!({"title": "Next", "body": "b"})).await.body["author"], expected);
}

#[tokio::test]
async fn deleting_a_user_deletes_their_posts_comments_and_notifications() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.wait_for_welcome().await;
    let (hers, his) = (ara.writes_commentable_post("Hers").await, bada.writes_commentable_post("His").await);
    ara.comments_on(his, "Hers on his.").await;
    bada.comments_on(hers, "His on hers.").await;
    let kept = bada.comments_on(his, "His on his.").await;

    assert_eq!(ara.delete("/users/me").await.status, 202);
    for (what, path) in
        [("her post", format!("/posts/{hers}")), ("its comments", format!("/posts/{hers}/comments"))]
    {
        eventually(&format!("{what} are gone"), async || {
            (system.get(&path).await.status == 404).then_some(())
        })
        .await;
    }
    eventually("her comment on his post is gone, and only hers", async || {
        let left = system.get(&format!("/posts/{his}/comments")).await.body["items"].clone();
        let ids: Vec<&Value> = left.as_array().unwrap().iter().map(|comment| &comment["id"]).collect();
        (ids == [&json!(kept)]).then_some(())
    })
    .await;
    eventually("her notifications are gone", async || {
        (ara.get("/notifications").await.body["items"] == json!([])).then_some(())
    })
    .await;
    assert_eq!(system.get(&format!("/posts/{his}")).await.status, 200);
}

#[tokio::test]
async fn an_event_delivered_twenty_times_has_one_effect() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.wait_for_welcome().await;
    let comment = Uuid::now_v7();
    let data = json!({"id": comment, "post_id": Uuid::now_v7(), "post_author_id": ara.id, "author_id": bada.id,
                      "author_name": "Bada", "excerpt": "Twenty times."});
    let created = event("comment.created", comment, 1, &data);
    for _ in 0..20 {
        system.publish(&created).await;
    }
    let outcomes = system.wait_until_consumed("notifications-on-comment", &created, 20).await;
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "applied").count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "already applied").count(), 19, "{outcomes:?}");
    assert_eq!(ara.notifications("comment").await.len(), 1);
    assert_eq!(ara.get("/notifications").await.body["unread_count"], 2);
}

#[tokio::test]
async fn a_registration_delivered_twenty_times_sends_one_welcome() {
    let system = System::connect().await;
    let newcomer = system.sign_up().await;
    let created = named("user.created", newcomer.id, 1, "Ara");
    for _ in 0..20 {
        system.publish(&created).await;
    }
    system.wait_until_consumed("notifications-on-user", &created, 20).await;
    assert_eq!(newcomer.notifications("welcome").await.len(), 1);
}

#[tokio::test]
async fn a_welcome_and_a_comment_that_arrive_late_have_the_time_of_their_events_and_are_listed_by_it() {
    let system = System::connect().await;
    let newcomer = system.sign_up().await;
    let ago = |seconds: i64| json!(Timestamp::now().plus_seconds(-seconds));
    let mut created = named("user.created", newcomer.id, 1, "Ara");
    created["time"] = ago(7200);
    let comment = Uuid::now_v7();
    let data = json!({"id": comment, "post_id": Uuid::now_v7(), "post_author_id": newcomer.id,
                      "author_id": Uuid::now_v7(), "author_name": "Bada", "excerpt": "Late."});
    let mut commented = event("comment.created", comment, 1, &data);
    commented["time"] = ago(3600);
    // The later one arrives first.
    system.publish(&commented).await;
    system.wait_until_consumed("notifications-on-comment", &commented, 1).await;
    system.publish(&created).await;
    system.wait_until_consumed("notifications-on-user", &created, 1).await;
    let items = newcomer.get("/notifications").await.body["items"].clone();
    let listed: Vec<_> =
        items.as_array().unwrap().iter().map(|item| (&item["type"], &item["created_at"])).collect();
    assert_eq!(listed, [(&json!("comment"), &commented["time"]), (&json!("welcome"), &created["time"])]);
}

#[tokio::test]
async fn a_late_event_does_not_restore_an_old_name() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_post("Spring").await;
    let name = async || system.get(&format!("/posts/{post}")).await.body["author"]["name"].clone();
    system.publish(&named("user.updated", ara.id, 9, "Version nine")).await;
    eventually("version nine arrives", async || (name().await == "Version nine").then_some(())).await;
    for late in
        [named("user.updated", ara.id, 5, "Version five"), named("user.created", ara.id, 1, "Version one")]
    {
        system.publish(&late).await;
        assert_eq!(system.wait_until_consumed("posts-on-user", &late, 1).await, ["already applied"]);
    }
    assert_eq!(name().await, "Version nine");
    let next = ara.post("/posts", &json!({"title": "Next", "body": "b"})).await;
    assert_eq!(next.body["author"]["name"], "Version nine");
}

#[tokio::test]
async fn a_deletion_that_arrives_before_earlier_events_wins() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = Uuid::now_v7();
    let deleted = event("post.deleted", post, 3, &json!({"id": post, "author_id": ara.id}));
    system.publish(&deleted).await;
    system.wait_until_consumed("comments-on-post", &deleted, 1).await;
    for late in [titled("post.updated", post, 2), titled("post.created", post, 1)] {
        system.publish(&late).await;
        assert_eq!(system.wait_until_consumed("comments-on-post", &late, 1).await, ["already applied"]);
    }
    let comments = format!("/posts/{post}/comments");
    system.get(&comments).await.is_problem(404, "not-found");
    ara.post(&comments, &json!({"body": "Late."})).await.is_problem(404, "not-found");
}

#[tokio::test]
async fn a_change_that_arrives_before_the_creation_makes_the_post_known() {
    let system = System::connect().await;
    let post = Uuid::now_v7();
    system.publish(&titled("post.updated", post, 2)).await;
    is_known(&system, post).await;
    let created = titled("post.created", post, 1);
    system.publish(&created).await;
    assert_eq!(system.wait_until_consumed("comments-on-post", &created, 1).await, ["already applied"]);
    assert_eq!(system.get(&format!("/posts/{post}/comments")).await.status, 200);
}

#[tokio::test]
async fn a_malformed_message_goes_to_the_dead_letter_queue_with_its_reason() {
    let system = System::connect().await;
    let consumers = [
        "users-on-user",
        "posts-on-user",
        "comments-on-user",
        "comments-on-post",
        "notifications-on-user",
        "notifications-on-comment",
        "notifications-email",
    ];
    for consumer in consumers {
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

#[tokio::test]
async fn a_poison_message_does_not_block_the_others() {
    let system = System::connect().await;
    let post = Uuid::now_v7();
    system.send("comments-on-post", "poison").await;
    system.publish(&titled("post.created", post, 1)).await;
    system.send("comments-on-post", "poison").await;
    is_known(&system, post).await;
}

#[tokio::test]
async fn fields_that_a_later_publisher_adds_are_ignored() {
    let system = System::connect().await;
    let post = Uuid::now_v7();
    let mut created = titled("post.created", post, 1);
    created["data"]["mood"] = json!("sunny");
    created["partitionkey"] = json!("x");
    system.publish(&created).await;
    is_known(&system, post).await;
}
