//! The API, tested from outside: a module for each group of URLs, and one for each rule that all endpoints follow.

mod authorization;
mod comments;
mod errors;
mod events;
mod idempotency;
mod inventory;
mod limits;
mod notifications;
mod order_events;
mod orders;
mod pagination;
mod payments;
mod posts;
mod preconditions;
mod requests;
mod users;
