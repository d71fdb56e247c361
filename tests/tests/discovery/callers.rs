//! What those who call users do when it is down: what their READMEs say.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{http_input, with_copy, with_variables, with_visibility_timeout},
};

use crate::{Namespace, finds, pending_order, question, variables};

#[tokio::test]
async fn posts_author_answers_503_and_when_to_come_back() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_post("Spring").await;
    let path = format!("/posts/{post}/author");
    let namespace = Namespace::new(&system).await;
    with_copy(&system, "posts-author", namespace.changes(), async |copy| {
        let invoked = copy.invoke(&http_input("posts-author", ara.id, &path, &json!({"id": post}))).await;
        let answer = invoked.http();
        answer.is_problem(503, "unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
        let told = "the service users is not available: Cloud Map has no healthy instance of users";
        assert!(invoked.log.contains(told), "{}", invoked.log);
        assert!(!answer.body.to_string().contains("Cloud Map"), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn a_buyer_who_is_not_there_is_refused_for_good_and_one_who_is_goes_on() {
    let system = System::connect().await;
    let (ara, nobody) = (system.registered("Ara").await, uuid::Uuid::now_v7());
    let order = pending_order(&ara).await;
    with_copy(&system, "orders-validate-user", variables(&[]), async |copy| {
        finds(copy, &question(order, ara.id)).await;
        let refused = copy.fails(&question(order, nobody)).await;
        assert_eq!(refused.answer["errorType"], "User.NotFound", "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn a_mail_waits_in_its_queue_while_users_is_down_and_goes_out_once_it_is_up() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.is_welcomed().await;
    let preferences = ara.request(Method::PUT, "/notifications/preferences").if_match(0);
    preferences.json(&json!({"email": true})).send().await.is(200, &json!({"email": true}));
    let post = ara.writes_known_post("Spring").await;

    let down = variables(&[("DISCOVERY", "static"), ("USERS_URL", "http://127.0.0.1:1")]).variables;
    with_visibility_timeout(&system, "notifications-email", 2, async || {
        let subject = with_variables_and_subject(&system, &down, async || {
            bada.comments_on(post, "So do I.").await;
            let told =
                eventually("the notification arrives", async || ara.notifications("comment").await.pop())
                    .await;
            let id = told["id"].as_str().unwrap().to_owned();
            eventually("the mail was tried", async || {
                let lines =
                    system.log_lines("notifications-email", "the service users is not available").await;
                lines.iter().any(|line| line.to_string().contains("127.0.0.1:1")).then_some(())
            })
            .await;
            assert!(system.depth("notifications-email").await > 0, "the mail for {id} waits");
            told["subject"].as_str().unwrap().to_owned()
        })
        .await;
        assert_eq!(system.mails(&ara.email, &subject).await, Vec::<Value>::new());
        eventually("the mail goes out", async || system.mails(&ara.email, &subject).await.pop()).await;
    })
    .await;
}

/// Lets a test run with other variables in the mail sender's environment, and gives what it found.
async fn with_variables_and_subject(
    system: &System,
    variables: &std::collections::HashMap<String, String>,
    test: impl AsyncFnOnce() -> String,
) -> String {
    let mut subject = None;
    with_variables(system, &["notifications-email"], variables, async || subject = Some(test().await)).await;
    subject.expect("the test has run")
}
