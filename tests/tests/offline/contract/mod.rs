//! What the API and the events promise: the committed documents say what the code says, and the templates route to it.
//!
//! `UPDATE=1 cargo test --workspace --test offline contract` writes the documents anew.

mod events;
mod files;
mod gate;
mod openapi;
mod release;
mod templates;
