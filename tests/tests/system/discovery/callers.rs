//! What the callers of users do while it is down, as their READMEs say.

use serde_json::json;
use system_tests::{
    System,
    faults::{http_input, with_copy},
};

use super::{Namespace, assert_found, input, pending_order, variables};

#[tokio::test]
async fn posts_author_answers_503_with_retry_after() {
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
        let reason = "the service users is not available: Cloud Map has no healthy instance of users";
        assert!(invoked.log.contains(reason), "{}", invoked.log);
        assert!(!answer.body.to_string().contains("Cloud Map"), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn an_unknown_buyer_is_refused_for_good_and_a_known_one_is_accepted() {
    let system = System::connect().await;
    let (ara, unknown) = (system.registered("Ara").await, uuid::Uuid::now_v7());
    let order = pending_order(&ara).await;
    with_copy(&system, "orders-validate-user", variables(&[]), async |copy| {
        assert_found(copy, &input(order, ara.id)).await;
        let refused = copy.fails(&input(order, unknown)).await;
        assert_eq!(refused.answer["errorType"], "User.NotFound", "{refused:?}");
    })
    .await;
}
