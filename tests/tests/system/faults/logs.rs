//! Logs name ids, and nobody's data.

use std::{env, process::Command};

use serde_json::{Value, json};
use system_tests::{
    Person, System,
    faults::{Changes, http_input, with_copy},
};

/// Invokes a copy with a body, and with the caller's token as API Gateway passes it on, and asserts that the
/// log has its line about the request and none of these texts.
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
async fn neither_name_nor_address_nor_token_is_logged() {
    let system = System::connect().await;
    let person = system.sign_up().await;
    assert_silent(&person, "users-register", "/users", &json!({"name": "Quetzal"}), &["Quetzal"]).await;
}

#[tokio::test]
async fn neither_title_nor_body_nor_author_is_logged() {
    let system = System::connect().await;
    let person = system.registered("Quetzal").await;
    let post = json!({"title": "Xylophone", "body": "Zeppelin"});
    assert_silent(&person, "posts-create", "/posts", &post, &["Quetzal", "Xylophone", "Zeppelin"]).await;
}

/// The local cloud keeps no lines of a function that does not start: here it is a process of its own.
#[test]
fn a_function_that_cannot_start_says_why_in_a_line_like_any_other() {
    let program = env::current_exe().unwrap().parent().unwrap().with_file_name("posts-get");
    let ended = Command::new(program)
        .env_clear()
        .envs([("AWS_LAMBDA_FUNCTION_NAME", "posts-get"), ("AWS_REGION", "us-east-1"), ("TABLE", "")])
        .output()
        .expect("the program of make up");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let mut line: Value = serde_json::from_slice(&ended.stdout).expect("one line of JSON");
    assert!(line["timestamp"].take().is_string(), "{line}");
    let expected = json!({
        "timestamp": null, "level": "ERROR", "message": "could not start", "function": "posts-get",
        "cause": "the environment variable TABLE is missing or empty: see the function's template",
    });
    assert_eq!(line, expected);
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}
