//! `ETag`, `If-Match` and `If-None-Match` (RFC 9110, section 13), on everything that has a version.

use std::collections::HashSet;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Answer, Person, System, eventually,
    shop::{CARD, new_sku, usd, wait_until_settled},
};
use uuid::Uuid;

const PREFERENCES: &str = "/notifications/preferences";

/// Things that have a version, each with someone who may read and change it.
async fn things(system: &System) -> Vec<(Person, String)> {
    let (ara, admin) = (system.registered("Ara").await, system.admin().await);
    ara.wait_for_welcome().await;
    let preferences = ara.request(Method::PUT, PREFERENCES).header("if-none-match", "*");
    assert_eq!(preferences.json(&json!({"email": false})).send().await.status, 201);
    let (post, sku) = (ara.writes_post("Spring").await, new_sku("tea"));
    admin.stocks(&sku, &usd(450), 7).await;
    let order = ara.orders(&sku, 1, CARD).await;
    // A confirmed order still changes the stock until it is settled.
    wait_until_settled(system, &[order]).await;
    vec![
        (ara.clone(), format!("/users/{}", ara.id)),
        (ara.clone(), format!("/posts/{post}")),
        (ara.clone(), PREFERENCES.to_owned()),
        (ara.clone(), format!("/orders/{order}")),
        (admin.clone(), format!("/inventory/{sku}")),
        (admin, format!("/staff/inventory/{sku}")),
        // Last, because a new name would change the post.
        (ara, "/users/me".to_owned()),
    ]
}

/// A valid body for a change of a thing, and the method; `None` if it cannot be changed this way.
fn change(path: &str) -> Option<(Method, Value)> {
    Some(match path.split('/').nth(1)? {
        "users" if path.ends_with("/me") => (Method::PATCH, json!({"name": "Areum"})),
        "posts" => (Method::PATCH, json!({"title": "Summer"})),
        "notifications" => (Method::PUT, json!({"email": true})),
        "inventory" => (Method::PUT, json!({"name": "Tea", "unit_price": usd(1), "on_hand": 9})),
        _ => return None,
    })
}

#[tokio::test]
async fn a_get_with_the_current_tag_is_not_modified_and_with_another_it_is_answered() {
    let system = System::connect().await;
    for (person, path) in things(&system).await {
        let read = person.get(&path).await;
        let tag = read.header("etag").unwrap_or_else(|| panic!("{path}: {read:?}")).to_owned();
        let get = |header, value: String| person.request(Method::GET, &path).header(header, &value).send();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let answer = get("if-none-match", known).await;
            answer.is(304, &Value::Null);
            assert_eq!(answer.header("etag"), Some(tag.as_str()), "{path}: {answer:?}");
        }
        for other in ["\"999\"", "\"x\"", "W/\"0\""] {
            get("if-none-match", other.to_owned()).await.is(200, &read.body);
        }
        get("if-match", "\"999\"".to_owned()).await.is_problem(412, "stale-version");
        get("if-match", format!("W/{tag}")).await.is_problem(412, "stale-version");
        for current in [tag.as_str(), "*", &format!(",, {tag},")] {
            get("if-match", current.to_owned()).await.is(200, &read.body);
        }
    }
}

#[tokio::test]
async fn a_malformed_precondition_is_unreadable_for_every_method() {
    let system = System::connect().await;
    for (person, path) in things(&system).await {
        let (changes, body) = change(&path).unwrap_or((Method::DELETE, Value::Null));
        for header in ["if-match", "if-none-match"] {
            for malformed in ["rubbish", "3", "\"3", "*, \"3\"", ","] {
                for method in [Method::GET, changes.clone()] {
                    if method == Method::DELETE && !path.ends_with("/me") {
                        continue;
                    }
                    let request = person.request(method, &path).header(header, malformed).json(&body);
                    request.send().await.is_problem(400, "unreadable");
                }
            }
        }
    }
    let ara = system.registered("Ara").await;
    let delete = ara.request(Method::DELETE, "/users/me").header("if-match", "rubbish");
    delete.send().await.is_problem(400, "unreadable");
    assert_eq!(ara.get("/users/me").await.status, 200);
}

#[tokio::test]
async fn a_change_with_a_false_precondition_is_refused_and_changes_nothing() {
    let system = System::connect().await;
    for (person, path) in things(&system).await {
        let Some((method, body)) = change(&path) else { continue };
        let before = person.get(&path).await;
        let tag = before.header("etag").unwrap();
        let send = |headers: &[(&str, &str)]| {
            let request = person.request(method.clone(), &path).json(&body);
            headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send()
        };
        send(&[("if-match", "\"999\"")]).await.is_problem(412, "stale-version");
        send(&[("if-match", tag), ("if-none-match", "*")]).await.is_problem(412, "stale-version");
        send(&[("if-match", tag), ("if-none-match", tag)]).await.is_problem(412, "stale-version");
        send(&[("if-none-match", "*")]).await.is_problem(412, "stale-version");
        send(&[("if-none-match", "\"999\"")]).await.is_problem(428, "version-required");
        send(&[]).await.is_problem(428, "version-required");
        person.get(&path).await.is(200, &before.body);
        let changed = send(&[("if-match", tag), ("if-none-match", "\"999\"")]).await;
        assert_eq!(changed.status, 200, "{path}: {changed:?}");
    }
}

#[tokio::test]
async fn a_deletion_with_a_false_precondition_is_refused() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_commentable_post("Spring").await;
    let comment = ara.comments_on(post, "So do I.").await;
    assert_eq!(ara.patch("/users/me", 1, &json!({"name": "Areum"})).await.status, 200);
    let paths =
        [format!("/posts/{post}/comments/{comment}"), format!("/posts/{post}"), "/users/me".to_owned()];
    for path in paths {
        let delete = |header, value| ara.request(Method::DELETE, &path).header(header, value).send();
        for stale in ["\"999\"", "W/\"1\"", "\"\""] {
            delete("if-match", stale).await.is_problem(412, "stale-version");
        }
        for named in ["*", "\"1\", \"2\""] {
            delete("if-none-match", named).await.is_problem(412, "stale-version");
        }
        let deleted = delete("if-match", "\"1\", \"2\",").await;
        assert!(deleted.status.is_success(), "{path}: {deleted:?}");
    }
}

#[tokio::test]
async fn the_tag_of_a_post_changes_with_its_authors_name_and_the_version_still_matches() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let path = format!("/posts/{}", ara.writes_post("Spring").await);
    let before = system.get(&path).await;
    let tag = before.is_view_of(1).to_owned();
    assert_eq!(ara.patch("/users/me", 1, &json!({"name": "Areum"})).await.status, 200);
    let after = eventually("the post has the new name", async || {
        let post = system.get(&path).await;
        (post.body["author"]["name"] == "Areum").then_some(post)
    })
    .await;
    assert_ne!(after.is_view_of(1), tag);
    let get = system.request(Method::GET, &path).header("if-none-match", &tag).send().await;
    get.is(200, &after.body);
    // Her new name is no reason to refuse an edit of what she has read.
    let edit = ara.request(Method::PATCH, &path).header("if-match", &tag).json(&json!({"title": "Summer"}));
    assert_eq!(edit.send().await.status, 200);
}

#[tokio::test]
async fn the_tag_of_a_stock_item_changes_when_it_is_reserved_and_its_version_does_not() {
    let system = System::connect().await;
    let (admin, buyer, sku) = (system.admin().await, system.registered("Ara").await, new_sku("tea"));
    admin.stocks(&sku, &usd(450), 7).await;
    let path = format!("/inventory/{sku}");
    let before = system.get(&path).await;
    let mut tags = vec![before.is_view_of(1).to_owned()];
    let order = buyer.orders(&sku, 2, CARD).await;
    buyer.wait_until_decided(order).await;
    let after = system.get(&path).await;
    assert_eq!(after.body["available"], 5);
    tags.push(after.header("etag").unwrap().to_owned());
    assert_ne!(tags[0], tags[1]);
    let get = system.request(Method::GET, &path).header("if-none-match", &tags[0]).send().await;
    assert_eq!(get.status, 200, "{get:?}");
}

#[tokio::test]
async fn a_profile_has_another_tag_for_its_owner_than_for_others() {
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    let path = format!("/users/{}", ara.id);
    let (own, public) = (ara.get(&path).await, bada.get(&path).await);
    assert_ne!(own.body, public.body);
    own.is_version(1);
    public.is_view_of(1);
    for answer in [&own, &public] {
        assert_eq!(answer.header("vary"), Some("authorization"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_list_has_no_tag_and_is_never_stale() {
    let system = System::connect().await;
    let get = |header, value| system.request(Method::GET, "/posts").header(header, value).send();
    assert_eq!(get("if-none-match", "\"1\"").await.status, 200);
    assert_eq!(get("if-match", "*").await.status, 200);
    get("if-match", "\"1\"").await.is_problem(412, "stale-version");
    get("if-none-match", "*").await.is(304, &Value::Null);
}

#[tokio::test]
async fn an_instance_of_a_service_has_no_version_to_name() {
    let system = System::connect().await;
    let path = format!("/registry/posts/instances/{}", Uuid::now_v7());
    for method in ["PUT", "DELETE"] {
        for (header, value) in [("if-match", "*"), ("if-match", "\"1\""), ("if-none-match", "*")] {
            let answer = system.send_signed_with(method, &path, &[(header, value)]).await;
            answer.is_problem(412, "stale-version");
        }
    }
}

#[tokio::test]
async fn a_deletion_that_loses_to_concurrent_edits_is_made_again() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    // Not each attempt meets an edit at the right moment.
    for _ in 0..5 {
        let path = format!("/posts/{}", ara.writes_post("Spring").await);
        let edits = (1..=8).map(|version| {
            let edit = ara.request(Method::PATCH, &path).header("if-match", "*");
            edit.json(&json!({"title": format!("Spring {version}")})).send()
        });
        let (edited, deleted): (Vec<Answer>, Answer) =
            futures::join!(join_all(edits), async { ara.delete(&path).await });
        deleted.is(204, &Value::Null);
        for edit in edited {
            assert!([200, 404, 412].contains(&edit.status.as_u16()), "{edit:?}");
        }
        system.get(&path).await.is_problem(404, "not-found");
    }
}

#[tokio::test]
async fn a_change_of_any_version_loses_to_no_concurrent_one() {
    let system = System::connect().await;
    for (person, path) in things(&system).await {
        let Some((method, body)) = change(&path) else { continue };
        let send = || person.request(method.clone(), &path).header("if-match", "*").json(&body).send();
        let answers = join_all((0..4).map(|_| send())).await;
        for answer in &answers {
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
        let versions: HashSet<&str> = answers.iter().map(|answer| answer.header("etag").unwrap()).collect();
        assert_eq!(versions.len(), 4, "{path}: each is a version of its own: {versions:?}");
    }
}
