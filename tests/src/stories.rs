//! The expected stories of traces. A story has a line for each request or event that reached a function, below the hop that
//! caused it.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    PATIENCE, Person, Request, System,
    shop::{new_sku, order, usd},
    traces::{Origin, Trace},
};

/// A registration.
pub const REGISTERED: &str = "\
users-register: POST /users
  comments-on-user: consume user.created
  notifications-on-user: consume user.created
    notifications-email: consume notification.created
    notifications-relay: publish notification.created
  orders-on-user: consume user.created
  posts-on-user: consume user.created
  users-relay: publish user.created
";

/// A new post.
pub const POSTED: &str = "\
posts-create: POST /posts
  comments-on-post: consume post.created
  posts-relay: publish post.created
";

/// A new comment, if the post's author gets mail.
pub const COMMENTED: &str = "\
comments-create: POST /posts/{id}/comments
  comments-relay: publish comment.created
  notifications-on-comment: consume comment.created
    notifications-email: consume notification.created
      users-lookup: GET /internal/users/{id}
    notifications-relay: publish notification.created
";

/// A successful order.
pub const CONFIRMED: &str = "\
orders-place: POST /orders
  inventory-commit: inventory-commit
    inventory-relay: publish inventory.committed
  inventory-reserve: inventory-reserve
    inventory-relay: publish inventory.reserved
  notifications-on-order: consume order.placed
    notifications-email: consume notification.created
    notifications-relay: publish notification.created
  orders-confirm: orders-confirm
    notifications-on-order: consume order.confirmed
      notifications-email: consume notification.created
      notifications-relay: publish notification.created
    orders-relay: publish order.confirmed
  orders-relay: publish order.placed
  orders-validate-user: orders-validate-user
    users-lookup: GET /internal/users/{id}
  payments-authorize: payments-authorize
    payments-relay: publish payment.authorized
  payments-capture: payments-capture
    payments-relay: publish payment.captured
";

/// An order whose card is declined.
pub const REJECTED: &str = "\
orders-place: POST /orders
  inventory-release: inventory-release
    inventory-relay: publish inventory.released
  inventory-reserve: inventory-reserve
    inventory-relay: publish inventory.reserved
  notifications-on-order: consume order.placed
    notifications-email: consume notification.created
    notifications-relay: publish notification.created
  orders-abort: orders-abort
  orders-reject: orders-reject
    notifications-on-order: consume order.rejected
      notifications-email: consume notification.created
      notifications-relay: publish notification.created
    orders-relay: publish order.rejected
  orders-relay: publish order.placed
  orders-validate-user: orders-validate-user
    users-lookup: GET /internal/users/{id}
  payments-authorize: payments-authorize failed: Payment.Declined
  payments-cancel: payments-cancel
";

/// The deletion of a user with one post that has a comment. A cascade has a second pass, which continues the trace of the
/// first.
pub const DELETED: &str = "\
users-delete: DELETE /users/me
  comments-on-user: consume user.deleted
    comments-on-user: consume user.deleted
  notifications-on-user: consume user.deleted
    notifications-on-user: consume user.deleted
  orders-on-user: consume user.deleted
  posts-on-user: consume user.deleted
    comments-on-post: consume post.deleted
      comments-on-post: consume post.deleted
      comments-relay: publish comment.deleted
    posts-on-user: consume user.deleted
    posts-relay: publish post.deleted
  users-on-user: consume user.deleted
  users-relay: publish user.deleted
";

/// Sends a request and waits until its trace, which the answer names, has this story. Returns the trace and where it begins.
pub async fn send_traced(system: &System, request: Request, status: u16, story: &str) -> (Origin, Trace) {
    let answer = request.send().await;
    assert_eq!(answer.status, status, "{answer:?}");
    let (origin, sampled) = answer.trace_context();
    assert!(sampled, "the local Lambda samples everything: {answer:?}");
    let trace = await_story(system, &origin, story).await;
    (origin, trace)
}

/// Waits until a trace has this story. Returns the trace.
pub async fn await_story(system: &System, origin: &Origin, story: &str) -> Trace {
    let found = await_story_within(2 * PATIENCE, system, origin, story).await;
    found.unwrap_or_else(|other| panic!("the story is\n{other}\nand not\n{story}"))
}

/// Waits for a trace to have this story. If it does not in time, returns the story that it has then.
pub async fn await_story_within(
    patience: Duration,
    system: &System,
    origin: &Origin,
    story: &str,
) -> Result<Trace, String> {
    let deadline = Instant::now() + patience;
    loop {
        let trace = system.trace(&origin.trace_id).await;
        match trace.map(|trace| (trace.story(), trace)) {
            Some((found, trace)) if found == story => {
                assert_eq!(trace.inconsistencies(origin), [] as [&str; 0]);
                return Ok(trace);
            }
            other if Instant::now() > deadline => {
                return Err(other.map(|(found, _)| found).unwrap_or_default());
            }
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Registers someone and waits until every service has its copy of the user: a service without one would call users, and that
/// call would be in the trace.
pub async fn registered(system: &System) -> Person {
    let person = system.sign_up().await;
    let register = person.request(Method::POST, "/users").json(&json!({"name": "Bada"}));
    send_traced(system, register, 201, REGISTERED).await;
    person
}

/// A buyer of whom every service has a copy, and the SKU of an item with this stock.
pub async fn shop_with_known_buyer(system: &System, on_hand: u32) -> (Person, String) {
    let (admin, buyer, sku) = (system.admin().await, registered(system).await, new_sku("tea"));
    admin.stocks(&sku, &usd(1250), on_hand).await;
    (buyer, sku)
}

/// The request for an order of one item.
pub fn place(buyer: &Person, sku: &str, payment_method: &str) -> Request {
    buyer.request(Method::POST, "/orders").key(&new_sku("key")).json(&order(sku, 1, payment_method))
}

/// The functions in these stories. A test that expects the stories needs the functions as they were deployed.
pub fn functions<'a>(stories: &[&'a str]) -> Vec<&'a str> {
    let lines = stories.iter().flat_map(|story| story.lines());
    lines.filter_map(|line| line.trim_start().split(':').next()).collect()
}
