//! Authentication and authorization.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Answer, Person, System, eventually,
    shop::{CARD, new_sku, order, usd},
};
use uuid::Uuid;

/// The endpoints that need a signed-in user.
fn endpoints(post: Uuid, comment: Uuid) -> Vec<(Method, String)> {
    vec![
        (Method::POST, "/users".to_owned()),
        (Method::GET, "/users/me".to_owned()),
        (Method::GET, format!("/users/{}", Uuid::now_v7())),
        (Method::PATCH, "/users/me".to_owned()),
        (Method::DELETE, "/users/me".to_owned()),
        (Method::POST, "/posts".to_owned()),
        (Method::PATCH, format!("/posts/{post}")),
        (Method::DELETE, format!("/posts/{post}")),
        (Method::POST, format!("/posts/{post}/comments")),
        (Method::PATCH, format!("/posts/{post}/comments/{comment}")),
        (Method::DELETE, format!("/posts/{post}/comments/{comment}")),
        (Method::GET, "/notifications".to_owned()),
        (Method::POST, format!("/notifications/{}/read", Uuid::now_v7())),
        (Method::POST, "/notifications/read-all".to_owned()),
        (Method::GET, "/notifications/preferences".to_owned()),
        (Method::PUT, "/notifications/preferences".to_owned()),
        (Method::POST, "/orders".to_owned()),
        (Method::GET, "/orders".to_owned()),
        (Method::GET, format!("/orders/{}", Uuid::now_v7())),
        (Method::POST, format!("/orders/{}/cancel", Uuid::now_v7())),
        (Method::GET, format!("/orders/{}/payment", Uuid::now_v7())),
        (Method::PUT, "/inventory/tea".to_owned()),
        (Method::GET, "/staff/inventory".to_owned()),
        (Method::GET, "/staff/inventory/tea".to_owned()),
    ]
}

/// A token whose claims were changed after it was signed.
fn tampered(token: &str, change: impl Fn(&mut Value)) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    change(&mut claims);
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
}

#[tokio::test]
async fn a_request_without_a_valid_token_changes_nothing() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_commentable_post("Spring").await;
    let comment = ara.comments_on(post, "So do I.").await;
    let unsigned = format!("{}.", ara.token.rsplit_once('.').unwrap().0);
    let expired = tampered(&ara.token, |claims| claims["exp"] = json!(1_000_000_000));
    let extended = tampered(&ara.token, |claims| claims["exp"] = json!(4_102_444_800_u64));
    let impersonating = tampered(&ara.token, |claims| claims["sub"] = json!(Uuid::now_v7()));
    for (method, path) in endpoints(post, comment) {
        let request = || system.request(method.clone(), &path).if_match(1).json(&json!({}));
        let anonymous = request().send().await;
        assert_eq!(anonymous.status, 401, "{method} {path}: {anonymous:?}");
        for token in ["rubbish", "", &unsigned, &expired, &extended, &impersonating] {
            let answer = request().header("authorization", &format!("Bearer {token}")).send().await;
            assert_eq!(answer.status, 401, "{method} {path} with {token:.9}…: {answer:?}");
        }
    }
    assert_eq!(system.get(&format!("/posts/{post}")).await.body["version"], 1);
    assert_eq!(ara.get("/users/me").await.body["version"], 1);
}

#[tokio::test]
async fn no_one_can_make_themselves_an_admin() {
    let system = System::connect().await;
    let (ara, sku) = (system.registered("Ara").await, new_sku("tea"));
    let path = format!("/inventory/{sku}");
    let listing = json!({"name": "Tea", "unit_price": usd(1), "on_hand": 1});
    let put = || system.request(Method::PUT, &path).header("if-none-match", "*").json(&listing);
    let promoted = tampered(&ara.token, |claims| claims["cognito:groups"] = json!(["admin"]));
    for (token, status) in [(&ara.token, 403), (&promoted, 401)] {
        let answer = put().header("authorization", &format!("Bearer {token}")).send().await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    }
    let mut body = listing.clone();
    body["groups"] = json!(["admin"]);
    let answer = ara.request(Method::PUT, &path).header("if-none-match", "*").json(&body).send().await;
    answer.is_problem(403, "forbidden");
    system.get(&path).await.is_problem(404, "not-found");
}

/// Asserts that a token that says `admin` does not let its owner read or change the stock, and that nothing was changed.
async fn is_no_longer_staff(former: &Person, sku: &str, detail: &str) {
    let path = format!("/inventory/{sku}");
    let listing = json!({"name": "Mine now", "unit_price": usd(1), "on_hand": 1});
    let before = former.system.stock(sku).await;
    for request in [
        former.request(Method::PUT, &path).if_match(1).json(&listing),
        former
            .request(Method::PUT, &format!("/inventory/{}", new_sku("tea")))
            .header("if-none-match", "*")
            .json(&listing),
        // Whether they are staff is checked before the request.
        former.request(Method::PUT, &path).json(&json!({})),
        former.request(Method::GET, "/staff/inventory"),
        former.request(Method::GET, &format!("/staff/inventory/{sku}")),
    ] {
        let refused = request.send().await;
        refused.is_problem(403, "forbidden");
        assert_eq!(refused.body["detail"], detail);
    }
    assert_eq!(former.system.stock(sku).await, before);
}

#[tokio::test]
async fn an_admin_who_is_taken_out_of_the_group_is_refused_at_once_although_the_token_still_names_it() {
    let system = System::connect().await;
    let (admin, sku) = (system.admin().await, new_sku("tea"));
    admin.stocks(&sku, &usd(450), 7).await;
    let cognito = aws_sdk_cognitoidentityprovider::Client::new(&system.aws);
    let remove = cognito.admin_remove_user_from_group().user_pool_id(system.output("user_pool_id"));
    remove.username(&admin.email).group_name("admin").send().await.expect("AdminRemoveUserFromGroup");
    is_no_longer_staff(
        &admin,
        &sku,
        "only members of the group admin may do this, and you are no longer one",
    )
    .await;
}

#[tokio::test]
async fn an_admin_whose_login_is_disabled_or_removed_is_refused_at_once_although_the_token_is_valid() {
    let system = System::connect().await;
    let (admin, sku) = (system.admin().await, new_sku("tea"));
    admin.stocks(&sku, &usd(450), 7).await;
    let detail = "your login has been removed or disabled";
    let cognito = aws_sdk_cognitoidentityprovider::Client::new(&system.aws);
    let disable = cognito.admin_disable_user().user_pool_id(system.output("user_pool_id"));
    disable.username(&admin.email).send().await.expect("AdminDisableUser");
    is_no_longer_staff(&admin, &sku, detail).await;
    admin.loses_login().await;
    is_no_longer_staff(&admin, &sku, detail).await;
}

#[tokio::test]
async fn an_admin_who_has_deleted_the_account_is_refused_as_soon_as_the_login_is_gone() {
    let system = System::connect().await;
    let (admin, sku) = (system.admin().await, new_sku("tea"));
    admin.stocks(&sku, &usd(450), 7).await;
    assert_eq!(admin.delete("/users/me").await.status, 202);
    eventually("the login is gone", async || {
        (admin.get("/staff/inventory?limit=1").await.status == 403).then_some(())
    })
    .await;
    is_no_longer_staff(&admin, &sku, "your login has been removed or disabled").await;
}

#[tokio::test]
async fn an_id_token_is_refused() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let bearer = format!("Bearer {}", ara.id_token);
    let answer = system.request(Method::GET, "/users/me").header("authorization", &bearer).send().await;
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[tokio::test]
async fn a_user_without_a_profile_is_told_to_register() {
    let system = System::connect().await;
    let (ara, unregistered) = (system.registered("Ara").await, system.sign_up().await);
    let post = ara.writes_commentable_post("Spring").await;
    unregistered.get("/users/me").await.is_problem(403, "profile-required");
    unregistered.patch("/users/me", 1, &json!({"name": "X"})).await.is_problem(403, "profile-required");
    unregistered.delete("/users/me").await.is_problem(403, "profile-required");
    unregistered
        .post("/posts", &json!({"title": "t", "body": "b"}))
        .await
        .is_problem(403, "profile-required");
    let comments = format!("/posts/{post}/comments");
    unregistered.post(&comments, &json!({"body": "b"})).await.is_problem(403, "profile-required");
    unregistered.post("/orders", &order("tea", 1, CARD)).await.is_problem(403, "profile-required");
}

#[tokio::test]
async fn another_users_post_cannot_be_changed() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let path = format!("/posts/{}", ara.writes_post("Spring").await);
    bada.patch(&path, 1, &json!({"title": "Mine now"})).await.is_problem(403, "forbidden");
    bada.delete(&path).await.is_problem(403, "forbidden");
    let post = system.get(&path).await;
    assert_eq!((&post.body["title"], &post.body["version"]), (&json!("Spring"), &json!(1)));
}

#[tokio::test]
async fn a_deleted_users_token_can_write_nothing() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.wait_for_welcome().await;
    let post = bada.writes_commentable_post("Spring").await;
    assert_eq!(ara.delete("/users/me").await.status, 202);

    let comments = format!("/posts/{post}/comments");
    is_refused(&ara, Method::POST, "/posts", &json!({"title": "t", "body": "b"})).await;
    is_refused(&ara, Method::POST, &comments, &json!({"body": "b"})).await;
    is_refused(&ara, Method::POST, "/orders", &order("tea", 1, CARD)).await;
    is_refused(&ara, Method::PUT, "/notifications/preferences", &json!({"email": true})).await;
    is_refused(&ara, Method::POST, "/notifications/read-all", &json!({})).await;
    eventually("all her posts and comments are gone", async || {
        let posts = system.get(&format!("/posts?author={}", ara.id)).await;
        let comments = system.get(&comments).await;
        let empty = |answer: &Answer| answer.body["items"].as_array().is_some_and(Vec::is_empty);
        (empty(&posts) && empty(&comments)).then_some(())
    })
    .await;
}

/// Waits until a deleted user's request is refused, and asserts that it stays refused.
async fn is_refused(person: &Person, method: Method, path: &str, body: &Value) {
    let send = || person.request(method.clone(), path).if_match(0).json(body).send();
    eventually(&format!("{path} is refused"), async || (send().await.status == 403).then_some(())).await;
    send().await.is_problem(403, "profile-deleted");
}

#[tokio::test]
async fn the_internal_lookup_requires_a_signature_and_accepts_no_token() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let path = format!("/internal/users/{}", ara.id);
    for answer in [system.get(&path).await, ara.get(&path).await] {
        assert!([401, 403].contains(&answer.status.as_u16()), "{answer:?}");
        assert!(!answer.body.to_string().contains(&ara.email), "{answer:?}");
    }
}

#[tokio::test]
async fn a_signed_lookup_returns_the_user() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let user = json!({"id": ara.id, "name": "Ara", "email": ara.email, "created_at": "<time>", "version": 1});
    system.get_signed(&format!("/internal/users/{}", ara.id)).await.is(200, &user);
    system.get_signed(&format!("/internal/users/{}", Uuid::now_v7())).await.is_problem(404, "not-found");
    system.get_signed("/internal/users/nonsense").await.is_problem(404, "not-found");
}
