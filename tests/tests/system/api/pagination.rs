//! Lists that are read page by page while they change.

use std::collections::HashSet;

use serde_json::{Value, json};
use system_tests::{
    Person, System, eventually,
    shop::{CARD, new_sku},
};

/// The ids on each page of a list.
async fn pages(person: &Person, path: &str, limit: u32) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = person.get(&format!("{path}&limit={limit}{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        pages.push(ids(&page.body));
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
    }
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Writes posts and waits until all are listed. Returns their ids, oldest first, and the path of the list.
async fn write_posts(person: &Person, bodies: &[&str]) -> (Vec<String>, String) {
    let mut posts = Vec::new();
    for (number, body) in bodies.iter().enumerate() {
        let answer = person.post("/posts", &json!({"title": format!("Post {number}"), "body": body})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        posts.push(answer.id().to_string());
    }
    let path = format!("/posts?author={}", person.id);
    eventually("all are listed", async || {
        (pages(person, &path, 100).await.concat().len() == posts.len()).then_some(())
    })
    .await;
    (posts, path)
}

#[tokio::test]
async fn every_page_but_the_last_is_full_and_no_cursor_leads_to_an_empty_page() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let (mut newest_first, path) = write_posts(&ara, &["b"; 6]).await;
    newest_first.reverse();
    for (limit, sizes) in [(4, vec![4, 2]), (3, vec![3, 3]), (6, vec![6]), (1, vec![1; 6])] {
        let pages = pages(&ara, &path, limit).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "limit {limit}");
        assert_eq!(pages.concat(), newest_first);
    }
}

#[tokio::test]
async fn a_page_has_twenty_items_by_default() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_commentable_post("Spring").await;
    for number in 0..21 {
        ara.comments_on(post, &format!("Comment {number}")).await;
    }
    let page = system.get(&format!("/posts/{post}/comments")).await;
    assert_eq!(ids(&page.body).len(), 20);
    let next = page.body["next_cursor"].as_str().unwrap();
    let last = system.get(&format!("/posts/{post}/comments?cursor={next}")).await;
    assert_eq!((ids(&last.body).len(), &last.body["next_cursor"]), (1, &Value::Null));
}

#[tokio::test]
async fn writes_and_deletions_between_pages_cause_no_repeats_and_no_gaps() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let (posts, path) = write_posts(&ara, &["b"; 9]).await;

    let first = system.get(&format!("{path}&limit=2")).await;
    let mut seen = ids(&first.body);
    // A new post comes before the first page. Two posts are deleted, one that was read and one that was not.
    ara.writes_post("New").await;
    for gone in [&posts[8], &posts[3]] {
        assert_eq!(ara.delete(&format!("/posts/{gone}")).await.status, 204);
    }
    let mut next = first.body["next_cursor"].as_str().map(str::to_owned);
    while let Some(cursor) = next {
        let page = system.get(&format!("{path}&limit=2&cursor={cursor}")).await;
        seen.extend(ids(&page.body));
        next = page.body["next_cursor"].as_str().map(str::to_owned);
    }
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len(), "repeated: {seen:?}");
    let stable = posts.iter().enumerate().filter(|(number, _)| ![3, 8].contains(number));
    assert!(stable.into_iter().all(|(_, id)| seen.contains(id)), "skipped: {seen:?}");
}

#[tokio::test]
async fn the_posts_of_all_users_are_listed_newest_first_and_whole() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let answer = ara.post("/posts", &json!({"title": "Listed", "body": "Whole."})).await;
    let listed = eventually("the post is listed", async || {
        let page = system.get("/posts?limit=100").await;
        page.body["items"].as_array().unwrap().iter().find(|post| post["id"] == answer.body["id"]).cloned()
    })
    .await;
    assert_eq!(listed, answer.body);
    let page = system.get("/posts?limit=100").await;
    let items = page.body["items"].as_array().unwrap().iter();
    let times: Vec<&str> = items.map(|post| post["created_at"].as_str().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] >= pair[1]), "{times:?}");
}

#[tokio::test]
async fn a_page_of_the_longest_posts_fits_into_lambdas_answer() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    // A quotation mark takes four bytes of the six megabytes that Lambda's answer may have.
    let longest = "\"".repeat(64 * 1024);
    let (posts, path) = write_posts(&ara, &[longest.as_str(); 30]).await;
    let pages = pages(&ara, &path, 100).await;
    assert!(pages.iter().all(|page| page.len() * 64 * 1024 * 4 < 6_000_000), "{pages:?}");
    assert_eq!(pages.concat().into_iter().rev().collect::<Vec<_>>(), posts);
}

#[tokio::test]
async fn orders_are_listed_newest_first_page_by_page_while_they_are_processed() {
    let system = System::connect().await;
    let (ara, bada) = tokio::join!(system.registered("Ara"), system.registered("Bada"));
    let unknown = new_sku("unknown");
    let mut newest_first = Vec::new();
    for _ in 0..7 {
        newest_first.insert(0, ara.orders(&unknown, 1, CARD).await.to_string());
    }
    bada.orders(&unknown, 1, CARD).await;
    eventually("all are listed", async || {
        (pages(&ara, "/orders?", 100).await.concat().len() == 7).then_some(())
    })
    .await;
    for (limit, sizes) in [(3, vec![3, 3, 1]), (7, vec![7]), (1, vec![1; 7])] {
        let pages = pages(&ara, "/orders?", limit).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "limit {limit}");
        assert_eq!(pages.concat(), newest_first);
    }
    let cursor = ara.get("/orders?limit=1").await.body["next_cursor"].as_str().unwrap().to_owned();
    bada.get(&format!("/orders?cursor={cursor}")).await.is_invalid(&["/cursor"]);
    ara.get("/orders?limit=101").await.is_invalid(&["/limit"]);
}
