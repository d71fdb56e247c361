//! What those who call users do when it is down: what their READMEs say.

use serde_json::json;
use system_tests::{
    System,
    faults::{http_input, with_copy},
};

use super::{Namespace, finds, pending_order, question, variables};

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
