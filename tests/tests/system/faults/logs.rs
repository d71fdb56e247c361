//! Logs contain ids, but no personal data.

use serde_json::{Value, json};
use system_tests::{
    Person, System,
    faults::{Changes, http_input, with_copy},
};

/// Invokes a copy with a body, and with the caller's token as API Gateway passes it on. Asserts that the log has the line
/// about the request and none of these texts.
async fn assert_silent(person: &Person, function: &str, path: &str, body: &Value, texts: &[&str]) {
    let mut input = http_input(function, person.id, path, &json!({}));
    input["body"] = json!(body.to_string());
    input["headers"]["authorization"] = json!(format!("Bearer {}", person.token));
    with_copy(&person.system, function, Changes::default(), async |copy| {
        let invoked = copy.invoke(&input).await;
        assert_eq!(invoked.http().status, 201, "{invoked:?}");
        assert!(invoked.log.contains(r#""message":"answered""#), "{}", invoked.log);
        for text in texts.iter().chain(&[person.token.as_str(), person.email.as_str()]) {
            assert!(!invoked.log.contains(text), "{text} is in the log: {}", invoked.log);
        }
    })
    .await;
}

#[tokio::test]
async fn a_registration_logs_no_name_address_or_token() {
    let system = System::connect().await;
    let person = system.sign_up().await;
    assert_silent(&person, "users-register", "/users", &json!({"name": "Quetzal"}), &["Quetzal"]).await;
}

#[tokio::test]
async fn a_new_post_logs_no_title_body_or_author() {
    let system = System::connect().await;
    let person = system.registered("Quetzal").await;
    let post = json!({"title": "Xylophone", "body": "Zeppelin"});
    assert_silent(&person, "posts-create", "/posts", &post, &["Quetzal", "Xylophone", "Zeppelin"]).await;
}
