//! The running system, from outside: a module per URL group, and one per rule that holds for all.

mod authorization;
mod comments;
mod errors;
mod events;
mod idempotency;
mod inventory;
mod notifications;
mod order_events;
mod orders;
mod pagination;
mod payments;
mod posts;
mod users;
