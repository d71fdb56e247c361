//! `/posts`.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::System;
use uuid::Uuid;

#[tokio::test]
async fn creating_a_post_returns_it_whole_and_anyone_can_read_it() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let answer = ara.post("/posts", &json!({"title": "Spring 봄", "body": "It rains.\n\tStill."})).await;
    let post = json!({
        "id": "<uuid>", "author": {"id": ara.id, "name": "Ara"}, "title": "Spring 봄", "body": "It rains.\n\tStill.",
        "created_at": "<time>", "updated_at": "<time>", "version": 1,
    });
    answer.is(201, &post);
    assert_eq!(answer.id().get_version_num(), 7);
    assert_eq!(answer.body["created_at"], answer.body["updated_at"]);
    let path = format!("/posts/{}", answer.id());
    assert_eq!(answer.location(), system.url(&path));
    answer.is_view_of(1);

    let read = system.get(&path).await;
    read.is(200, &answer.body);
    read.is_view_of(1);
}

#[tokio::test]
async fn a_user_can_post_right_after_registering() {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    assert_eq!(ara.post("/users", &json!({"name": "Ara"})).await.status, 201);
    assert_eq!(ara.post("/posts", &json!({"title": "First", "body": "!"})).await.status, 201);
}

#[tokio::test]
async fn the_author_of_a_post_comes_from_the_users_service() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_post("Spring").await;
    assert_eq!(ara.patch("/users/me", 1, &json!({"name": "Areum"})).await.status, 200);
    // The users service answers, so this does not wait for an event.
    let author = json!({"id": ara.id, "name": "Areum", "created_at": "<time>", "version": 2});
    system.get(&format!("/posts/{post}/author")).await.is(200, &author);
    system.get(&format!("/posts/{}/author", Uuid::now_v7())).await.is_problem(404, "not-found");
}

#[tokio::test]
async fn an_unknown_post_is_not_found() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    for path in [format!("/posts/{}", Uuid::now_v7()), "/posts/not-a-uuid".to_owned()] {
        system.get(&path).await.is_problem(404, "not-found");
        ara.patch(&path, 1, &json!({"title": "x"})).await.is_problem(404, "not-found");
        ara.delete(&path).await.is_problem(404, "not-found");
    }
}

#[tokio::test]
async fn its_author_can_edit_a_post_in_part_or_as_a_whole() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let first = ara.post("/posts", &json!({"title": "Spring", "body": "It rains."})).await;
    let path = format!("/posts/{}", first.id());

    let second = ara.patch(&path, 1, &json!({"title": "Summer"})).await;
    let mut expected = first.body.clone();
    expected["title"] = json!("Summer");
    expected["updated_at"] = second.body["updated_at"].clone();
    expected["version"] = json!(2);
    second.is(200, &expected);
    second.is_view_of(2);
    assert!(second.body["updated_at"].as_str() > first.body["updated_at"].as_str());

    let third = ara.patch(&path, 2, &json!({"title": "Autumn", "body": "Wind."})).await;
    assert_eq!((&third.body["title"], &third.body["body"]), (&json!("Autumn"), &json!("Wind.")));
    system.get(&path).await.is(200, &third.body);
}

#[tokio::test]
async fn an_edit_must_name_the_current_version() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let path = format!("/posts/{}", ara.writes_post("Spring").await);
    let request = || ara.request(Method::PATCH, &path).json(&json!({"title": "Summer"}));
    request().send().await.is_problem(428, "version-required");
    request().if_match(7).send().await.is_problem(412, "stale-version");
    request().header("if-match", "W/\"1\"").send().await.is_problem(412, "stale-version");
    assert_eq!(system.get(&path).await.body["title"], "Spring");
    assert_eq!(request().header("if-match", "\"9\", \"1\"").send().await.status, 200);
}

#[tokio::test]
async fn an_edit_can_change_the_title_and_the_body_and_nothing_else() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let path = format!("/posts/{}", ara.writes_post("Spring").await);
    ara.patch(&path, 1, &json!({})).await.is_invalid(&[""]);
    ara.patch(&path, 1, &json!({"title": null})).await.is_invalid(&["/title"]);
    ara.patch(&path, 1, &json!({"title": "x", "author": {"id": ara.id}})).await.is_invalid(&["/author"]);
    ara.patch(&path, 1, &json!({"version": 9, "body": ""})).await.is_invalid(&["/body", "/version"]);
    assert_eq!(system.get(&path).await.body["version"], 1);
}

#[tokio::test]
async fn a_deleted_post_is_gone() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let path = format!("/posts/{}", ara.writes_post("Spring").await);
    ara.delete(&path).await.is(204, &Value::Null);
    system.get(&path).await.is_problem(404, "not-found");
    system.get(&format!("{path}/author")).await.is_problem(404, "not-found");
    ara.delete(&path).await.is_problem(404, "not-found");
    ara.patch(&path, 1, &json!({"title": "Ghost"})).await.is_problem(404, "not-found");
}

#[tokio::test]
async fn a_deletion_that_names_another_version_is_refused() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let path = format!("/posts/{}", ara.writes_post("Spring").await);
    let delete = |version| ara.request(Method::DELETE, &path).if_match(version).send();
    delete(2).await.is_problem(412, "stale-version");
    assert_eq!(delete(1).await.status, 204);
}

#[tokio::test]
async fn a_post_may_be_as_long_as_the_limits_and_no_longer() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let longest = json!({"title": "가".repeat(200), "body": "b".repeat(64 * 1024)});
    let answer = ara.post("/posts", &longest).await;
    assert_eq!(answer.status, 201);
    assert_eq!(system.get(&format!("/posts/{}", answer.id())).await.body["body"], longest["body"]);
    let too_long = json!({"title": "가".repeat(201), "body": "b".repeat(64 * 1024 + 1)});
    ara.post("/posts", &too_long).await.is_invalid(&["/title", "/body"]);
    // The limit of the body is in bytes.
    let too_long = json!({"title": "t", "body": "가".repeat(64 * 1024 / 3 + 1)});
    ara.post("/posts", &too_long).await.is_invalid(&["/body"]);
}

#[tokio::test]
async fn a_title_and_a_body_show_something_and_a_title_has_no_line_break() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    for blank in ["\u{200b}", "\u{3164}", "\u{2800}", "\u{200d}\u{fe0f} \u{feff}", "\u{301}"] {
        let answer = ara.post("/posts", &json!({"title": blank, "body": blank})).await;
        assert_eq!(answer.status, 422, "{blank:?}: {answer:?}");
        answer.is_invalid(&["/title", "/body"]);
    }
    for broken in ["a\u{2028}b", "a\u{2029}b", "a\u{85}b", "a\rb"] {
        let answer = ara.post("/posts", &json!({"title": broken, "body": "b"})).await;
        assert_eq!(answer.status, 422, "{broken:?}: {answer:?}");
        answer.is_invalid(&["/title"]);
    }
    let post = ara.writes_post("Spring").await;
    let edit = json!({"title": "\u{200b}"});
    ara.patch(&format!("/posts/{post}"), 1, &edit).await.is_invalid(&["/title"]);
    for title in ["👩‍👩‍👧", "שלום", "\u{202e}Spring"] {
        let answer = ara.post("/posts", &json!({"title": title, "body": title})).await;
        let stored = (&answer.body["title"], &answer.body["body"]);
        assert_eq!((answer.status.as_u16(), stored), (201, (&json!(title), &json!(title))), "{answer:?}");
    }
}
