//! What the API and the events promise: the committed documents say what the code says, and the templates route to it.
//!
//! `UPDATE=1 cargo test --workspace --test contract` writes the documents anew.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail this way")]

mod events;
mod files;
mod gate;
mod openapi;
mod release;
mod templates;
