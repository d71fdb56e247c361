//! `users-lookup` answers only the roles that the templates name, and each only by its transport: HTTP or RPC.

use aws_credential_types::Credentials;
use aws_sdk_lambda::primitives::Blob;
use serde_json::{Value, json};
use system_tests::{
    Person, System,
    faults::{Changes, credentials, with_copy},
};

use super::{assert_unavailable, input, pending_order, variables};

/// Looks up a user by invoking `users-lookup` as a role.
async fn invoke(system: &System, role: Credentials, person: &Person) -> Result<Value, String> {
    let config = aws_sdk_lambda::config::Builder::from(&system.aws).credentials_provider(role).build();
    let input = Blob::new(json!({"id": person.id}).to_string());
    let lambda = aws_sdk_lambda::Client::from_conf(config);
    let answer = lambda.invoke().function_name("users-lookup").payload(input).send().await;
    let answer = answer.map_err(|error| format!("{error:?}"))?;
    assert_eq!(answer.function_error, None);
    Ok(serde_json::from_slice(answer.payload.unwrap().as_ref()).unwrap())
}

#[tokio::test]
async fn a_role_can_look_up_users_only_by_the_transport_that_its_template_allows() {
    let system = System::connect().await;
    let person = system.registered("Ara").await;
    let path = format!("/internal/users/{}", person.id);
    let user = json!({
        "id": person.id, "name": "Ara", "email": person.email, "created_at": "<time>", "version": 1,
    });
    // Have each of these functions running, because the credentials come from its process.
    let post = person.writes_post("Spring").await;
    system.get(&format!("/posts/{post}/author")).await;
    system.get("/inventory").await;
    system.get("/posts").await;
    pending_order(&person).await;
    for (function, by_http, by_rpc) in [
        ("orders-validate-user", true, false),
        ("posts-author", false, true),
        ("posts-list", false, false),
        ("inventory-list", false, false),
    ] {
        let role = credentials(function).await;
        let answer = system.get_signed_by(&role, &path).await;
        if by_http {
            answer.is(200, &user);
        } else {
            assert_eq!(answer.status, 403, "{function}: {answer:?}");
            assert!(!answer.body.to_string().contains(&person.email), "{function}: {answer:?}");
        }
        match invoke(&system, role, &person).await {
            Ok(answer) => assert!(by_rpc && answer["user"]["email"] == person.email, "{function}: {answer}"),
            Err(error) => assert!(!by_rpc && error.contains("AccessDenied"), "{function}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_caller_whose_role_may_not_call_users_reports_it() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let input = input(pending_order(&buyer).await, buyer.id);
    // This role may call by RPC, but not by HTTP.
    let api = system.output("api_url");
    let changes = variables(&[("DISCOVERY", "static"), ("USERS_URL", api)]);
    let changes = Changes { role_of: Some("orders-place"), ..changes };
    with_copy(&system, "orders-validate-user", changes, async |copy| {
        let reason = assert_unavailable(copy, &input).await;
        assert!(reason.ends_with("refused with 403 Forbidden"), "{reason}");
    })
    .await;
}

#[tokio::test]
async fn a_caller_whose_role_may_not_discover_users_reports_it() {
    let system = System::connect().await;
    let buyer = system.registered("Ara").await;
    let input = input(pending_order(&buyer).await, buyer.id);
    let changes = Changes { role_of: Some("orders-get"), ..Changes::default() };
    with_copy(&system, "orders-validate-user", changes, async |copy| {
        let reason = assert_unavailable(copy, &input).await;
        assert!(reason.contains("AccessDenied"), "{reason}");
    })
    .await;
}
