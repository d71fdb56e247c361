//! Serves HTTP endpoints behind API Gateway.
//!
//! A handler reads as *parse, decide, store, answer*:
//!
//! ```
//! use kernel::{id, problem::Problem, text::Line};
//! use runtime::serve::http::{Endpoints, Reply, Request};
//! use serde_json::json;
//! # struct Rooms;
//! # impl Rooms {
//! #     async fn create(&self, _: &serde_json::Value) -> Result<(), Problem> {
//! #         Ok(())
//! #     }
//! # }
//!
//! async fn create(rooms: &Rooms, request: &Request) -> Result<Reply, Problem> {
//!     let caller = request.caller()?;
//!     let mut fields = request.json()?;
//!     let name = fields.required::<Line<80>>("name");
//!     let name = fields.finish(name)?;
//!
//!     let id = id::new();
//!     let room = json!({"id": id, "name": name, "host": caller.id});
//!     rooms.create(&room).await?;
//!     Ok(Reply::created(&room, &format!("/rooms/{id}"))?.etag(1))
//! }
//!
//! let endpoints = Endpoints::new(Rooms).on("POST", "/rooms", create);
//! // main() ends with `endpoints.serve().await`.
//! # drop(endpoints);
//! ```
//!
//! Every error, a panic included, becomes a problem document here, so that API Gateway never returns an error of
//! its own for it.
//!
//! | module | what it holds |
//! |---|---|
//! | `request` | what a handler can ask of a request |
//! | `reply` | what it can answer |
//! | `endpoints` | which handler answers which request, and what every answer has in common |
//! | `local_authorizer` | verifies tokens under `cargo lambda watch`; not part of a release build |

mod endpoints;
#[cfg(debug_assertions)]
mod local_authorizer;
mod reply;
mod request;

pub use self::{
    endpoints::Endpoints,
    reply::Reply,
    request::{Caller, Request},
};
