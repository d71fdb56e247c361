//! Invalid input. Every endpoint answers it with a problem document that names the field, and stores nothing.

use reqwest::Method;
use serde_json::json;
use system_tests::{Person, System};

const JSON: &str = "application/json";

/// The endpoints that take a body.
async fn endpoints(person: &Person) -> Vec<(Method, String)> {
    let post = person.writes_commentable_post("Spring").await;
    let comment = person.comments_on(post, "So do I.").await;
    vec![
        (Method::POST, "/users".to_owned()),
        (Method::PATCH, "/users/me".to_owned()),
        (Method::POST, "/posts".to_owned()),
        (Method::PATCH, format!("/posts/{post}")),
        (Method::POST, format!("/posts/{post}/comments")),
        (Method::PATCH, format!("/posts/{post}/comments/{comment}")),
        (Method::PUT, "/notifications/preferences".to_owned()),
    ]
}

#[tokio::test]
async fn malformed_json_is_unreadable() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    for (method, path) in endpoints(&ara).await {
        for body in [&b"{"[..], b"", b"{\"name\": }", b"name=Ara", b"{\"name\": \"\xff\xfe\"}", b"{} {}"] {
            let answer = ara.request(method.clone(), &path).if_match(1).raw(JSON, body).send().await;
            answer.is_problem(400, "unreadable");
        }
    }
}

#[tokio::test]
async fn json_that_is_not_an_object_is_invalid_as_a_whole() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    for (method, path) in endpoints(&ara).await {
        for body in ["[]", "null", "\"name\"", "17"] {
            ara.request(method.clone(), &path).if_match(1).raw(JSON, body).send().await.is_invalid(&[""]);
        }
    }
}

#[tokio::test]
async fn an_unknown_field_is_named() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    for (method, path) in endpoints(&ara).await {
        let answer = ara.request(method, &path).if_match(1).json(&json!({"x/y~z": 1})).send().await;
        answer.is_problem(422, "invalid");
        let errors = answer.body["errors"].as_array().unwrap();
        assert!(errors.iter().any(|error| error["pointer"] == "/x~1y~0z"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_declared_as_plain_json_is_refused() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    for (method, path) in endpoints(&ara).await {
        for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
            let request = ara.request(method.clone(), &path).if_match(1).raw(media_type, "{}");
            request.send().await.is_problem(415, "unsupported-media-type");
        }
        let request = ara.request(method.clone(), &path).if_match(1).raw(JSON, "{}");
        let request = request.header("content-encoding", "gzip");
        request.send().await.is_problem(415, "unsupported-media-type");
        let request = ara.request(method, &path).if_match(1).raw("Application/JSON; charset=utf-8", "{");
        request.send().await.is_problem(400, "unreadable");
    }
}

#[tokio::test]
async fn a_body_of_two_megabytes_is_too_large() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let body = json!({"title": "Long", "body": "b".repeat(2 * 1024 * 1024)}).to_string();
    for (method, path) in endpoints(&ara).await {
        let answer = ara.request(method, &path).if_match(1).raw(JSON, body.clone()).send().await;
        answer.is_problem(413, "too-large");
    }
}

#[tokio::test]
async fn an_invalid_query_parameter_is_named() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let comments = format!("/posts/{}/comments", ara.writes_commentable_post("Spring").await);
    for path in ["/posts", "/notifications", comments.as_str()] {
        for limit in ["0", "101", "-1", "ten", "1.5", ""] {
            ara.get(&format!("{path}?limit={limit}")).await.is_invalid(&["/limit"]);
        }
        for cursor in ["rubbish", "e30", "", "%00", "bnVsbA"] {
            ara.get(&format!("{path}?cursor={cursor}")).await.is_invalid(&["/cursor"]);
        }
    }
    system.get("/posts?author=me").await.is_invalid(&["/author"]);
    ara.get("/notifications?unread=maybe").await.is_invalid(&["/unread"]);
}

#[tokio::test]
async fn the_cursor_of_one_list_is_refused_by_another() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_commentable_post("Spring").await;
    for text in ["one", "two"] {
        ara.comments_on(post, text).await;
    }
    let comments = format!("/posts/{post}/comments");
    let page = system.get(&format!("{comments}?limit=1")).await;
    let cursor = page.body["next_cursor"].as_str().unwrap();
    assert_eq!(system.get(&format!("{comments}?cursor={cursor}")).await.status, 200);
    system.get(&format!("/posts?cursor={cursor}")).await.is_invalid(&["/cursor"]);
    system.get(&format!("/posts?author={}&cursor={cursor}", ara.id)).await.is_invalid(&["/cursor"]);
    ara.get(&format!("/notifications?cursor={cursor}")).await.is_invalid(&["/cursor"]);
}

#[tokio::test]
async fn a_malformed_or_overlong_idempotency_key_is_refused() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let draft = json!({"title": "Spring", "body": "It rains."});
    for key in ["\"\"", "\"a", "a b", &"k".repeat(256)] {
        let request = ara.request(Method::POST, "/posts").header("idempotency-key", key).json(&draft);
        request.send().await.is_problem(400, "unreadable");
    }
    let mine = system.get(&format!("/posts?author={}", ara.id)).await;
    mine.is(200, &json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn a_refused_request_stores_nothing() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let bodies = [
        json!({"title": "t"}),
        json!({"title": "t", "body": "b", "extra": 1}),
        json!({"title": 1, "body": "b"}),
    ];
    for body in bodies {
        assert_eq!(ara.post("/posts", &body).await.status, 422);
    }
    let mine = system.get(&format!("/posts?author={}", ara.id)).await;
    mine.is(200, &json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn a_problem_reveals_no_internals_and_has_a_unique_instance() {
    let system = System::connect().await;
    let path = "/posts/not-a-uuid";
    let (one, two) = (system.get(path).await, system.get(path).await);
    let mut expected = json!({
        "type": "urn:madang:problem:not-found", "title": "Not found", "status": 404,
        "detail": "the id in the path is not a UUID", "instance": "<text>",
    });
    system_tests::assert_json(&one.body, &expected);
    expected["instance"] = two.body["instance"].clone();
    assert_ne!(one.body["instance"], two.body["instance"]);
}
