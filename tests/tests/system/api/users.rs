//! `/users`.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{System, eventually};
use tokio::sync::Mutex;
use uuid::Uuid;

#[tokio::test]
async fn registering_creates_a_profile_for_the_caller() {
    let system = System::connect().await;
    let ara = system.sign_up().await;

    let answer = ara.post("/users", &json!({"name": "Ara"})).await;
    let profile =
        json!({"id": ara.id, "name": "Ara", "email": ara.email, "created_at": "<time>", "version": 1});
    answer.is(201, &profile);
    assert_eq!(answer.location(), system.url(&format!("/users/{}", ara.id)));
    answer.is_version(1);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));

    let own = ara.get("/users/me").await;
    own.is(200, &answer.body);
    own.is_version(1);
}

#[tokio::test]
async fn registering_again_returns_the_existing_profile() {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let first = ara.post("/users", &json!({"name": "Ara"})).await;
    let second = ara.post("/users", &json!({"name": "Someone else"})).await;
    second.is(200, &first.body);
    second.is_version(1);
}

#[tokio::test]
async fn registering_requires_a_verified_email_address() {
    let system = System::connect().await;
    let ara = system.sign_up_unverified().await;
    let name = json!({"name": "Ara"});
    let refused = ara.post("/users", &name).await;
    refused.is_problem(403, "forbidden");
    assert_eq!(refused.body["title"], "Not allowed");
    assert_eq!(
        refused.body["detail"],
        "the e-mail address of your login is not verified: verify it with the code that was mailed to you, then repeat \
         this request"
    );
    let draft = json!({"title": "Spring", "body": "It rains."});
    ara.post("/posts", &draft).await.is_problem(403, "profile-required");

    ara.verifies_email().await;
    let answer = ara.post("/users", &name).await;
    assert_eq!(answer.status, 201, "the same token is refused: {answer:?}");
}

#[tokio::test]
async fn a_caller_whose_login_is_gone_is_told_to_sign_up_again() {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    ara.loses_login().await;
    let refused = ara.post("/users", &json!({"name": "Ara"})).await;
    refused.is_problem(403, "forbidden");
    assert_eq!(refused.body["detail"], "your login no longer exists: sign up again");
}

#[tokio::test]
async fn an_id_or_a_role_in_the_body_is_refused() {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let body = json!({"name": "Ara", "id": Uuid::nil(), "is_admin": true});
    ara.post("/users", &body).await.is_invalid(&["/id", "/is_admin"]);
    ara.get("/users/me").await.is_problem(403, "profile-required");
}

#[tokio::test]
async fn others_see_a_profile_without_its_email_address() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let path = format!("/users/{}", ara.id);
    let public = json!({"id": ara.id, "name": "Ara", "created_at": "<time>", "version": 1});
    bada.get(&path).await.is(200, &public);

    let own = json!({"id": ara.id, "name": "Ara", "email": ara.email, "created_at": "<time>", "version": 1});
    ara.get(&path).await.is(200, &own);
}

#[tokio::test]
async fn an_unknown_profile_is_not_found() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    ara.get(&format!("/users/{}", Uuid::now_v7())).await.is_problem(404, "not-found");
    ara.get("/users/not-a-uuid").await.is_problem(404, "not-found");
}

#[tokio::test]
async fn changing_the_name_makes_a_new_version() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let answer = ara.patch("/users/me", 1, &json!({"name": "Areum"})).await;
    let profile =
        json!({"id": ara.id, "name": "Areum", "email": ara.email, "created_at": "<time>", "version": 2});
    answer.is(200, &profile);
    answer.is_version(2);
    ara.get("/users/me").await.is(200, &answer.body);
}

#[tokio::test]
async fn a_change_must_name_the_current_version() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let rename = ara.request(Method::PATCH, "/users/me").json(&json!({"name": "Areum"}));
    let without = rename.send().await;
    without.is_problem(428, "version-required");
    // The detail names no version, so that clients cannot copy one that they have not read.
    assert_eq!(without.body["detail"], "send If-Match with the ETag of your last GET");
    ara.patch("/users/me", 2, &json!({"name": "Areum"})).await.is_problem(412, "stale-version");
    assert_eq!(ara.get("/users/me").await.body["name"], "Ara");
}

#[tokio::test]
async fn of_two_concurrent_changes_one_wins_and_the_other_gets_412() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let names = [json!({"name": "One"}), json!({"name": "Two"})];
    let (one, two) = tokio::join!(ara.patch("/users/me", 1, &names[0]), ara.patch("/users/me", 1, &names[1]));
    let (winner, loser) = if one.status == 200 { (one, two) } else { (two, one) };
    loser.is_problem(412, "stale-version");
    ara.get("/users/me").await.is(200, &winner.body);
    assert_eq!(winner.body["version"], 2);
}

#[tokio::test]
async fn names_are_stored_exactly_including_emoji_and_right_to_left_text() {
    let system = System::connect().await;
    for name in ["마당 👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦", "שלום", "\u{200f}שלום\u{200e} مرحبا", " spaced  out ", "e\u{301}\u{202e}"]
    {
        let person = system.registered(name).await;
        assert_eq!(person.get("/users/me").await.body["name"], name);
        let post = person.writes_post("Spring").await;
        assert_eq!(system.get(&format!("/posts/{post}")).await.body["author"]["name"], name);
    }
}

#[tokio::test]
async fn a_deleted_user_cannot_be_found_register_again_or_sign_in() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.delete("/users/me").await.is(202, &Value::Null);

    bada.get(&format!("/users/{}", ara.id)).await.is_problem(404, "not-found");
    ara.get("/users/me").await.is_problem(403, "profile-deleted");
    ara.delete("/users/me").await.is_problem(403, "profile-deleted");
    ara.patch("/users/me", 1, &json!({"name": "Ghost"})).await.is_problem(403, "profile-deleted");
    ara.post("/users", &json!({"name": "Ghost"})).await.is_problem(403, "profile-deleted");
    let login = Mutex::new(ara.clone());
    eventually("the login is removed", async || login.lock().await.sign_in().await.err()).await;
    ara.post("/users", &json!({"name": "Ghost"})).await.is_problem(403, "profile-deleted");
    bada.get(&format!("/users/{}", ara.id)).await.is_problem(404, "not-found");
}

#[tokio::test]
async fn a_name_has_one_to_eighty_characters_on_one_line() {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let too_long = "가".repeat(81);
    for bad in
        [json!(""), json!("   "), json!(too_long), json!("a\u{0}b"), json!("a\nb"), json!(7), json!(null)]
    {
        ara.post("/users", &json!({"name": bad})).await.is_invalid(&["/name"]);
    }
    ara.post("/users", &json!({})).await.is_invalid(&["/name"]);
    ara.get("/users/me").await.is_problem(403, "profile-required");
    let longest = "가".repeat(80);
    assert_eq!(ara.post("/users", &json!({"name": longest})).await.status, 201);
    ara.patch("/users/me", 1, &json!({"name": ""})).await.is_invalid(&["/name"]);
    assert_eq!(ara.get("/users/me").await.body["name"], longest);
}

#[tokio::test]
async fn a_name_shows_something_and_has_no_line_break() {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    for bad in [
        "\u{200b}",
        "\u{3164}",
        "\u{ffa0}\u{115f}",
        "\u{2800}",
        "\u{ad}\u{200d}\u{fe0f}",
        " \u{202e} ",
        "\u{301}",
        "a\u{2028}b",
        "a\u{2029}b",
        "a\u{85}b",
    ] {
        let answer = ara.post("/users", &json!({"name": bad})).await;
        assert_eq!(answer.status, 422, "{bad:?}: {answer:?}");
        answer.is_invalid(&["/name"]);
    }
    ara.get("/users/me").await.is_problem(403, "profile-required");
}

#[tokio::test]
async fn a_key_that_is_reused_with_another_name_is_refused() {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let register =
        |name: &str| ara.request(Method::POST, "/users").key("k").json(&json!({"name": name})).send();
    assert_eq!(register("Ara").await.status, 201);
    assert_eq!(register("Ara").await.status, 200);
    register("Bada").await.is_problem(422, "idempotency-key-reused");
}
