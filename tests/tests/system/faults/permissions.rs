//! A function has only the permissions of its role: AWS denies what the template does not allow.

use serde_json::json;
use system_tests::{
    System,
    faults::{Changes, http_input, with_copy},
};

#[tokio::test]
async fn a_function_without_write_permission_changes_nothing_and_reveals_nothing() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let before = person.get("/users/me").await;
    let changes = Changes { role_of: Some("users-get"), ..Changes::default() };
    with_copy(&system, "users-update", changes, async |copy| {
        let invoked = copy.invoke(&http_input("users-update", person.id, "/users/me", &json!({}))).await;
        let refused = invoked.http();
        refused.is_problem(500, "internal");
        let detail = "an unexpected error; if this was a change, it may have been made. Operators find the cause by `instance`";
        assert_eq!(refused.body["detail"], detail);
        assert!(invoked.log.contains("AccessDenied"), "{}", invoked.log);
        assert!(invoked.log.contains(r#""problem":"internal""#), "{}", invoked.log);
    })
    .await;
    person.get("/users/me").await.is(200, &before.body);
}

#[tokio::test]
async fn a_function_that_may_not_call_users_answers_503() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let post = person.writes_post("Spring").await;
    let path = format!("/posts/{post}/author");
    let changes = Changes { role_of: Some("posts-get"), ..Changes::default() };
    with_copy(&system, "posts-author", changes, async |copy| {
        let invoked = copy.invoke(&http_input("posts-author", person.id, &path, &json!({"id": post}))).await;
        invoked.http().is_problem(503, "unavailable");
        assert!(invoked.log.contains("AccessDenied"), "{}", invoked.log);
        assert!(invoked.log.contains(r#""problem":"unavailable""#), "{}", invoked.log);
    })
    .await;
    let expected = json!({"id": person.id, "name": "Ara", "created_at": "<time>", "version": 1});
    system.get(&path).await.is(200, &expected);
}
