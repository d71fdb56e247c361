//! `/posts/{id}/comments`.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{System, eventually};
use uuid::Uuid;

#[tokio::test]
async fn creating_a_comment_returns_it_whole_and_lists_it() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let post = ara.writes_commentable_post("Spring").await;
    let path = format!("/posts/{post}/comments");
    let answer = bada.post(&path, &json!({"body": "So do I. 🌧"})).await;
    let comment = json!({
        "id": "<uuid>", "post_id": post, "author": {"id": bada.id, "name": "Bada"}, "body": "So do I. 🌧",
        "created_at": "<time>", "updated_at": "<time>", "version": 1,
    });
    answer.is(201, &comment);
    assert_eq!(answer.location(), system.url(&format!("{path}/{}", answer.id())));
    answer.is_view_of(1);
    system.get(&path).await.is(200, &json!({"items": [answer.body], "next_cursor": null}));
}

#[tokio::test]
async fn comments_are_listed_oldest_first() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_commentable_post("Spring").await;
    let mut written = Vec::new();
    for text in ["one", "two", "three"] {
        written.push(json!(ara.comments_on(post, text).await));
    }
    let listed = system.get(&format!("/posts/{post}/comments")).await;
    let ids: Vec<Value> =
        listed.body["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
    assert_eq!(ids, written);
}

#[tokio::test]
async fn the_comments_of_an_unknown_post_are_not_found() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let path = format!("/posts/{}/comments", Uuid::now_v7());
    system.get(&path).await.is_problem(404, "not-found");
    ara.post(&path, &json!({"body": "Hello?"})).await.is_problem(404, "not-found");
    system.get("/posts/nonsense/comments").await.is_problem(404, "not-found");
}

#[tokio::test]
async fn anyone_can_read_a_comment_until_it_or_its_post_is_deleted() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let (post, other) =
        (ara.writes_commentable_post("Spring").await, ara.writes_commentable_post("Summer").await);
    let (kept, deleted) = (bada.comments_on(post, "one").await, bada.comments_on(post, "two").await);
    let path = |post: Uuid, comment: Uuid| format!("/posts/{post}/comments/{comment}");
    let listed = system.get(&format!("/posts/{post}/comments")).await;
    let read = system.get(&path(post, kept)).await;
    read.is(200, &listed.body["items"][0]);
    let tag = read.is_view_of(1);
    let known = system.request(Method::GET, &path(post, kept)).header("if-none-match", tag);
    known.send().await.is(304, &Value::Null);

    assert_eq!(bada.delete(&path(post, deleted)).await.status, 204);
    for path in
        [path(post, deleted), path(other, kept), path(post, Uuid::now_v7()), path(Uuid::now_v7(), kept)]
    {
        system.get(&path).await.is_problem(404, "not-found");
    }
    system.get(&format!("/posts/{post}/comments/x")).await.is_problem(404, "not-found");
    assert_eq!(ara.delete(&format!("/posts/{post}")).await.status, 204);
    eventually("the comment is gone", async || {
        let gone = system.get(&path(post, kept)).await;
        (gone.status != 200).then_some(gone)
    })
    .await
    .is_problem(404, "not-found");
}

#[tokio::test]
async fn only_its_author_can_edit_a_comment() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let post = ara.writes_commentable_post("Spring").await;
    let path = format!("/posts/{post}/comments/{}", bada.comments_on(post, "So do I.").await);
    let edit = json!({"body": "Not I."});

    ara.patch(&path, 1, &edit).await.is_problem(403, "forbidden");
    bada.request(Method::PATCH, &path).json(&edit).send().await.is_problem(428, "version-required");
    bada.patch(&path, 2, &edit).await.is_problem(412, "stale-version");
    bada.patch(&path, 1, &json!({"body": ""})).await.is_invalid(&["/body"]);
    let answer = bada.patch(&path, 1, &edit).await;
    assert_eq!(answer.status, 200);
    answer.is_view_of(2);
    assert_eq!((&answer.body["body"], &answer.body["version"]), (&json!("Not I."), &json!(2)));
    let listed = system.get(&format!("/posts/{post}/comments")).await;
    listed.is(200, &json!({"items": [answer.body], "next_cursor": null}));
}

#[tokio::test]
async fn only_its_author_and_the_posts_author_can_delete_a_comment() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let chan = system.registered("Chan").await;
    let post = ara.writes_commentable_post("Spring").await;
    let path = |comment: Uuid| format!("/posts/{post}/comments/{comment}");
    let (first, second) = (bada.comments_on(post, "one").await, bada.comments_on(post, "two").await);

    chan.delete(&path(first)).await.is_problem(403, "forbidden");
    bada.delete(&path(first)).await.is(204, &Value::Null);
    bada.delete(&path(first)).await.is_problem(404, "not-found");
    ara.delete(&path(second)).await.is(204, &Value::Null);
    let empty = json!({"items": [], "next_cursor": null});
    system.get(&format!("/posts/{post}/comments")).await.is(200, &empty);
}

#[tokio::test]
async fn a_comment_is_found_only_under_its_own_post() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let (one, other) = (ara.writes_commentable_post("One").await, ara.writes_commentable_post("Other").await);
    let comment = ara.comments_on(one, "Here.").await;
    ara.delete(&format!("/posts/{other}/comments/{comment}")).await.is_problem(404, "not-found");
    ara.delete(&format!("/posts/{one}/comments/nonsense")).await.is_problem(404, "not-found");
    ara.delete(&format!("/posts/{one}/comments/{comment}")).await.is(204, &Value::Null);
}

#[tokio::test]
async fn a_comment_may_not_be_blank_or_exceed_4_kib() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let path = format!("/posts/{}/comments", ara.writes_commentable_post("Spring").await);
    assert_eq!(ara.post(&path, &json!({"body": "c".repeat(4096)})).await.status, 201);
    ara.post(&path, &json!({"body": "c".repeat(4097)})).await.is_invalid(&["/body"]);
    ara.post(&path, &json!({"body": " \n "})).await.is_invalid(&["/body"]);
    ara.post(&path, &json!({"text": "wrong field"})).await.is_invalid(&["/body", "/text"]);
}

#[tokio::test]
async fn a_comment_shows_something() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let path = format!("/posts/{}/comments", ara.writes_commentable_post("Spring").await);
    for bad in ["\u{200b}", "\u{3164}", "\u{2800}\n\u{2800}", "\u{200f}\u{2060}", "\u{301}"] {
        let answer = ara.post(&path, &json!({"body": bad})).await;
        assert_eq!(answer.status, 422, "{bad:?}: {answer:?}");
        answer.is_invalid(&["/body"]);
    }
    for body in ["👩‍👩‍👧", "\u{200f}שלום", "a\u{2028}b", "⠓"] {
        let answer = ara.post(&path, &json!({"body": body})).await;
        assert_eq!((answer.status.as_u16(), &answer.body["body"]), (201, &json!(body)), "{answer:?}");
    }
}

#[tokio::test]
async fn deleting_a_post_deletes_its_comments() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let post = ara.writes_commentable_post("Spring").await;
    let comments = format!("/posts/{post}/comments");
    let comment = bada.comments_on(post, "So do I.").await;
    assert_eq!(ara.delete(&format!("/posts/{post}")).await.status, 204);
    eventually("the comment is gone", async || {
        let answer = bada.patch(&format!("{comments}/{comment}"), 1, &json!({"body": ""})).await;
        assert_eq!(answer.status, 422, "an empty body is not refused");
        let answer = bada.patch(&format!("{comments}/{comment}"), 99, &json!({"body": "x"})).await;
        (answer.status == 404).then_some(())
    })
    .await;
    system.get(&comments).await.is_problem(404, "not-found");
    bada.post(&comments, &json!({"body": "Late."})).await.is_problem(404, "not-found");
}
