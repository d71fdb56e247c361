//! `/notifications`.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{System, eventually};
use uuid::Uuid;

const PREFERENCES: &str = "/notifications/preferences";

#[tokio::test]
async fn a_comment_notifies_the_posts_author() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.wait_for_welcome().await;
    let post = ara.writes_commentable_post("Spring").await;
    bada.comments_on(post, "So do I.").await;
    eventually("the notification arrives", async || ara.notifications("comment").await.pop()).await;

    let all = ara.get("/notifications").await;
    let of_type = |kind: &str| {
        json!({"id": "<uuid>", "type": kind, "subject": "<text>", "message": "<text>", "read": false,
               "created_at": "<time>"})
    };
    let items = [of_type("comment"), of_type("welcome")];
    all.is(200, &json!({"items": items, "next_cursor": null, "unread_count": 2}));
    let comment = &all.body["items"][0];
    assert!(comment["subject"].as_str().unwrap().contains("Bada"), "{comment}");
    assert!(comment["message"].as_str().unwrap().contains("So do I."), "{comment}");
}

#[tokio::test]
async fn a_comment_on_your_own_post_notifies_no_one() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let post = ara.writes_commentable_post("Spring").await;
    ara.comments_on(post, "My own.").await;
    bada.comments_on(post, "Another's.").await;
    eventually("the notification of the other's comment arrives", async || {
        ara.notifications("comment").await.pop()
    })
    .await;
    system.wait_until_drained("notifications-on-comment").await;
    assert_eq!(ara.notifications("comment").await.len(), 1);
}

#[tokio::test]
async fn a_read_notification_no_longer_counts_as_unread() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    ara.wait_for_welcome().await;
    let mut welcome = ara.notifications("welcome").await.remove(0);
    let path = format!("/notifications/{}/read", welcome["id"].as_str().unwrap());

    for _ in 0..2 {
        ara.request(Method::POST, &path).send().await.is(204, &Value::Null);
    }
    welcome["read"] = json!(true);
    let read = json!({"items": [welcome], "next_cursor": null, "unread_count": 0});
    ara.get("/notifications").await.is(200, &read);
    let none = json!({"items": [], "next_cursor": null, "unread_count": 0});
    ara.get("/notifications?unread=true").await.is(200, &none);
}

#[tokio::test]
async fn read_all_marks_present_notifications_and_no_later_ones() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.wait_for_welcome().await;
    let post = ara.writes_commentable_post("Spring").await;
    bada.comments_on(post, "one").await;
    eventually("one arrives", async || (ara.notifications("comment").await.len() == 1).then_some(())).await;

    ara.request(Method::POST, "/notifications/read-all").send().await.is(204, &Value::Null);
    let all = ara.get("/notifications").await;
    assert_eq!(all.body["unread_count"], 0);
    assert!(all.body["items"].as_array().unwrap().iter().all(|item| item["read"] == true), "{all:?}");

    bada.comments_on(post, "two").await;
    eventually("two arrives", async || (ara.notifications("comment").await.len() == 2).then_some(())).await;
    let unread = ara.get("/notifications?unread=true").await;
    assert_eq!(
        (unread.body["items"].as_array().unwrap().len(), &unread.body["unread_count"]),
        (1, &json!(1))
    );
    assert!(unread.body["items"][0]["message"].as_str().unwrap().contains("two"), "{unread:?}");
}

#[tokio::test]
async fn another_users_notification_is_not_found_and_stays_unread() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.wait_for_welcome().await;
    bada.wait_for_welcome().await;
    let welcome = ara.notifications("welcome").await.remove(0);
    let path = format!("/notifications/{}/read", welcome["id"].as_str().unwrap());
    bada.request(Method::POST, &path).send().await.is_problem(404, "not-found");
    let unknown = format!("/notifications/{}/read", Uuid::now_v7());
    ara.request(Method::POST, &unknown).send().await.is_problem(404, "not-found");
    ara.request(Method::POST, "/notifications/x/read").send().await.is_problem(404, "not-found");
    assert_eq!(ara.get("/notifications").await.body["unread_count"], 1);
}

#[tokio::test]
async fn no_mail_is_sent_unless_the_user_asked_for_it() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    ara.wait_for_welcome().await;
    let preferences = ara.get(PREFERENCES).await;
    preferences.is(200, &json!({"email": false}));
    preferences.is_version(0);
    system.wait_until_drained("notifications-email").await;
    let subject = ara.notifications("welcome").await[0]["subject"].as_str().unwrap().to_owned();
    assert_eq!(system.mails(&ara.email, &subject).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_user_who_asked_for_mail_gets_one_per_notification() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.wait_for_welcome().await;
    let request = || ara.request(Method::PUT, PREFERENCES).json(&json!({"email": true}));
    request().send().await.is_problem(428, "version-required");
    request().if_match(3).send().await.is_problem(412, "stale-version");
    request().if_match(0).header("if-none-match", "\"0\"").send().await.is_problem(412, "stale-version");
    request().if_match(0).header("if-none-match", "7").send().await.is_problem(400, "unreadable");
    let answer = request().if_match(0).send().await;
    answer.is(200, &json!({"email": true}));
    answer.is_version(1);
    let stored = ara.get(PREFERENCES).await;
    stored.is(200, &json!({"email": true}));
    stored.is_version(1);
    request().if_match(0).send().await.is_problem(412, "stale-version");

    let post = ara.writes_commentable_post("Spring").await;
    bada.comments_on(post, "So do I.").await;
    let notification =
        eventually("the notification arrives", async || ara.notifications("comment").await.pop()).await;
    let subject = notification["subject"].as_str().unwrap();
    let mail = eventually("the mail is sent", async || system.mails(&ara.email, subject).await.pop()).await;
    assert!(mail.to_string().contains("So do I."), "{mail}");
    system.wait_until_drained("notifications-email").await;
    assert_eq!(system.mails(&ara.email, subject).await.len(), 1);
}

#[tokio::test]
async fn a_hostile_name_stays_inside_its_place_in_notifications_and_mails() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    ara.wait_for_welcome().await;
    let preferences = ara.request(Method::PUT, PREFERENCES).if_match(0);
    preferences.json(&json!({"email": true})).send().await.is(200, &json!({"email": true}));
    let post = ara.writes_commentable_post("Spring").await;

    let isolated = |text: &str| format!("\u{2068}{text}\u{2069}");
    for (name, shown) in [
        ("\u{202e}Madang Security: your account\u{2069}", "Madang Security: your account"),
        ("=?utf-8?q?Madang_Security?=", "=?utf-8?q?Madang_Security?="),
        ("\u{2066}\u{202b}שלום 👩‍👩‍👧", "שלום 👩‍👩‍👧"),
    ] {
        let author = system.registered(name).await;
        assert_eq!(author.get("/users/me").await.body["name"], name);
        author.comments_on(post, "\u{202e}So\n\ndo I.").await;

        let subject = format!("New comment on your post, by {}", isolated(shown));
        let wanted = |notification: &Value| notification["subject"] == *subject;
        let notification = eventually("the notification arrives", async || {
            ara.notifications("comment").await.into_iter().find(wanted)
        })
        .await;
        let message =
            format!("Your post has a new comment. {} wrote: {}", isolated(shown), isolated("So do I."));
        assert_eq!(notification["message"], *message);

        let mail =
            eventually("the mail is sent", async || system.mails(&ara.email, &subject).await.pop()).await;
        let header = mail["Subject"].as_str().unwrap();
        assert!(header.chars().all(|c| matches!(c, ' '..='~')) && header.len() < 998, "{header}");
        assert!(!header.contains("Security"), "{header}");
        assert!(mail.to_string().contains(&message), "{mail}");
    }
}

#[tokio::test]
async fn what_a_notification_quotes_ends_between_the_characters_that_people_see() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.wait_for_welcome().await;
    let post = ara.writes_commentable_post("Spring").await;
    let beginning = "a".repeat(139);
    for whole in ["🇰🇷", "👩‍👩‍👧"] {
        bada.comments_on(post, &format!("{beginning}{whole}")).await;
    }
    let comments = eventually("both notifications arrive", async || {
        let comments = ara.notifications("comment").await;
        (comments.len() == 2).then_some(comments)
    })
    .await;
    for comment in comments {
        let message = comment["message"].as_str().unwrap();
        assert!(message.ends_with(&format!(" wrote: \u{2068}{beginning}\u{2069}")), "{message}");
    }
}

#[tokio::test]
async fn preferences_are_true_or_false() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    ara.wait_for_welcome().await;
    let put = |body: Value| ara.request(Method::PUT, PREFERENCES).if_match(0).json(&body).send();
    put(json!({"email": "yes"})).await.is_invalid(&["/email"]);
    put(json!({})).await.is_invalid(&["/email"]);
    put(json!({"email": true, "sms": true})).await.is_invalid(&["/sms"]);
    ara.get(PREFERENCES).await.is(200, &json!({"email": false}));
}

#[tokio::test]
async fn only_registered_users_can_change_anything() {
    let system = System::connect().await;
    let unregistered = system.sign_up().await;
    let none = json!({"items": [], "next_cursor": null, "unread_count": 0});
    unregistered.get("/notifications").await.is(200, &none);
    unregistered
        .request(Method::POST, "/notifications/read-all")
        .send()
        .await
        .is_problem(403, "profile-required");
    let put = unregistered.request(Method::PUT, PREFERENCES).if_match(0);
    put.json(&json!({"email": true})).send().await.is_problem(403, "profile-required");
}
