//! The calls of DynamoDB that an endpoint makes, counted by a proxy: a command makes one write after at most one read, and a
//! query for one object makes one read. A command with a limit per person also counts, at the same time as it reads: what the
//! person has created, and what of it is deleted.

use serde_json::{Value, json};
use system_tests::{
    Person, System,
    faults::{Changes, Proxy, http_input, with_copy},
};
use uuid::Uuid;

/// Invokes a copy of a function, and asserts the status of its answer and its calls of DynamoDB.
async fn assert_calls(system: &System, function: &str, input: &Value, status: u16, calls: &[&str]) {
    let proxy = Proxy::start(system).await;
    with_copy(system, function, Changes::endpoint("DYNAMODB", &proxy), async |copy| {
        let invoked = copy.invoke(input).await;
        assert_eq!(invoked.http().status, status, "{function}: {invoked:?}");
        assert_eq!(proxy.operations_with_reads_sorted(), calls, "{function}");
    })
    .await;
}

/// The input of a function for a post.
fn of_post(function: &str, person: &Person, post: Uuid) -> Value {
    http_input(function, person.id, &format!("/posts/{post}"), &json!({"id": post}))
}

/// The input of a function for a comment.
fn of_comment(function: &str, person: &Person, post: Uuid, comment: Uuid) -> Value {
    let path = format!("/posts/{post}/comments/{comment}");
    http_input(function, person.id, &path, &json!({"id": post, "comment_id": comment}))
}

#[tokio::test]
async fn registering_takes_one_write_and_no_read() {
    let system = System::connect().await;
    let person = system.sign_up().await;
    let input = http_input("users-register", person.id, "/users", &json!({}));
    assert_calls(&system, "users-register", &input, 201, &["PutItem"]).await;
    assert_calls(&system, "users-register", &input, 200, &["PutItem"]).await;
}

#[tokio::test]
async fn reading_a_profile_takes_one_read_and_changing_it_one_more_write() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let input = |function| http_input(function, person.id, "/users/me", &json!({}));
    assert_calls(&system, "users-get", &input("users-get"), 200, &["GetItem"]).await;
    assert_calls(&system, "users-update", &input("users-update"), 200, &["GetItem", "UpdateItem"]).await;
    assert_calls(&system, "users-delete", &input("users-delete"), 202, &["GetItem", "PutItem"]).await;
}

#[tokio::test]
async fn reading_a_post_takes_one_read_and_writing_it_one_more_write() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let create = http_input("posts-create", person.id, "/posts", &json!({}));
    assert_calls(&system, "posts-create", &create, 201, &["GetItem", "Query", "Query", "PutItem"]).await;

    let post = person.writes_post("Spring").await;
    let input = |function| of_post(function, &person, post);
    assert_calls(&system, "posts-get", &input("posts-get"), 200, &["GetItem"]).await;
    assert_calls(&system, "posts-update", &input("posts-update"), 200, &["BatchGetItem", "UpdateItem"]).await;
    assert_calls(&system, "posts-delete", &input("posts-delete"), 204, &["BatchGetItem", "PutItem"]).await;
}

#[tokio::test]
async fn writing_a_comment_takes_one_read_and_one_write() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let post = person.writes_commentable_post("Spring").await;
    let path = format!("/posts/{post}/comments");
    let create = http_input("comments-create", person.id, &path, &json!({"id": post}));
    let calls = ["BatchGetItem", "Query", "Query", "PutItem"];
    assert_calls(&system, "comments-create", &create, 201, &calls).await;

    let comment = person.comments_on(post, "So do I.").await;
    let input = |function| of_comment(function, &person, post, comment);
    let update = input("comments-update");
    assert_calls(&system, "comments-update", &update, 200, &["BatchGetItem", "UpdateItem"]).await;
    let delete = input("comments-delete");
    assert_calls(&system, "comments-delete", &delete, 204, &["BatchGetItem", "PutItem"]).await;
}

#[tokio::test]
async fn marking_a_notification_and_setting_preferences_each_take_one_read_and_one_write() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    person.wait_for_welcome().await;
    let welcome = person.notifications("welcome").await.remove(0);
    let path = format!("/notifications/{}/read", welcome["id"].as_str().unwrap());
    let read = http_input("notifications-read", person.id, &path, &json!({"id": welcome["id"]}));
    assert_calls(&system, "notifications-read", &read, 204, &["BatchGetItem", "UpdateItem"]).await;

    let preferences =
        http_input("notifications-preferences", person.id, "/notifications/preferences", &json!({}));
    let expected = ["BatchGetItem", "UpdateItem"];
    assert_calls(&system, "notifications-preferences", &preferences, 201, &expected).await;
}
