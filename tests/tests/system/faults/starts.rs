//! What happens before a handler: a function that cannot start, and an event that is not a request. Each has one line in the log,
//! with the request's id and route, and counts as an error of the endpoint.

use std::collections::HashMap;

use serde_json::json;
use system_tests::{
    System,
    faults::{Changes, Proxy, Refusal, batch, event, http_input, with_copy},
};
use uuid::Uuid;

use super::assert_told;

/// Changes that make a function miss a setting.
fn without(variable: &str) -> Changes {
    Changes { variables: HashMap::from([(variable.to_owned(), String::new())]), ..Changes::default() }
}

#[tokio::test]
async fn an_endpoint_that_cannot_start_answers_each_request_with_503() {
    let system = System::connect().await;
    let id = Uuid::now_v7();
    let input = http_input("posts-get", id, &format!("/posts/{id}"), &json!({"id": id}));
    with_copy(&system, "posts-get", without("TABLE"), async |copy| {
        for _ in 0..2 {
            let invoked = copy.invoke(&input).await;
            assert_told(&invoked, "GET /posts/{id}", 503, "unavailable");
            let cause = "the environment variable TABLE is missing or empty: see the function's template";
            assert!(invoked.log.contains(cause), "{}", invoked.log);
        }
    })
    .await;
}

#[tokio::test]
async fn a_step_that_cannot_start_fails_as_unavailable_and_a_consumer_keeps_its_messages() {
    let system = System::connect().await;
    let order = json!({"order_id": Uuid::now_v7(), "buyer_id": Uuid::now_v7(), "traceparent": null});
    with_copy(&system, "orders-validate-user", without("TABLE"), async |copy| {
        let failed = copy.fails(&order).await;
        assert_eq!(failed.answer["errorType"], "Unavailable", "{failed:?}");
        assert!(failed.log.contains(r#""message":"could not start""#), "{}", failed.log);
    })
    .await;
    let id = Uuid::now_v7();
    let created = event("user.created", id, 1, &json!({"id": id, "name": "Ara"}));
    with_copy(&system, "orders-on-user", without("TABLE"), async |copy| {
        // The invocation fails as a whole, so that the queue delivers all of its messages again.
        let failed = copy.fails(&batch("orders-on-user", &[created])).await;
        assert!(failed.log.contains(r#""message":"could not start""#), "{}", failed.log);
    })
    .await;
}

#[tokio::test]
async fn a_function_that_could_not_start_starts_with_the_next_request() {
    let system = System::connect().await;
    let proxy = Proxy::start(&system).await;
    let mut changes = Changes::endpoint("SECRETS_MANAGER", &proxy);
    changes.variables.insert("PAYMENT_PROVIDER".to_owned(), "stripe".to_owned());
    changes.variables.insert("STRIPE_SECRET".to_owned(), "keys".to_owned());
    changes.variables.insert("STRIPE_API_URL".to_owned(), "http://127.0.0.1:1".to_owned());
    proxy.refuse(|_| Some(Refusal::failure()));
    with_copy(&system, "payments-webhook", changes, async |copy| {
        let mut input = http_input("payments-webhook", Uuid::now_v7(), "/payments/webhook", &json!({}));
        input["headers"]["stripe-signature"] = json!("t=1,v1=00");
        assert_told(&copy.invoke(&input).await, "POST /payments/webhook", 503, "unavailable");

        let keys = json!({"secret_key": "sk_test_1", "webhook_secret": "whsec_1"}).to_string();
        proxy.refuse(move |_| {
            Some(Refusal { status: 200, body: json!({"Name": "keys", "SecretString": keys}) })
        });
        copy.invoke(&input).await.http().is_problem(401, "unauthenticated");
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_not_a_request_is_answered_logged_and_counted() {
    let system = System::connect().await;
    let id = Uuid::now_v7();
    let input = || http_input("posts-get", id, &format!("/posts/{id}"), &json!({"id": id}));
    let (mut control, mut cut, mut base64, mut elsewhere) = (input(), input(), input(), input());
    control["headers"]["host"] = json!("\u{1}");
    cut["requestContext"]["http"] = json!(7);
    (base64["body"], base64["isBase64Encoded"]) = (json!("%%%"), json!(true));
    elsewhere["routeKey"] = json!("GET /posts");
    let (mut host, mut query) = (input(), input());
    host["headers"]["host"] = json!("a b<\"c\">");
    query["rawQueryString"] = json!("a=\"b\"");
    with_copy(&system, "posts-get", Changes::default(), async |copy| {
        for event in [control, cut, base64] {
            assert_told(&copy.invoke(&event).await, "GET /posts/{id}", 400, "unreadable");
        }
        assert_told(&copy.invoke(&query).await, "GET /posts/{id}", 422, "invalid");
        // A route that the function does not have is a mistake in a template, not a missing thing.
        assert_told(&copy.invoke(&elsewhere).await, "- -", 404, "no-such-path");
        for event in [host, input()] {
            assert_told(&copy.invoke(&event).await, "GET /posts/{id}", 404, "not-found");
        }
    })
    .await;
}
