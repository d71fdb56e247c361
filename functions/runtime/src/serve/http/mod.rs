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
//! // main() passes them to `runtime::run`.
//! # drop(endpoints);
//! ```
//!
//! Every error becomes a problem document here, so that API Gateway never returns an error of its own for it: a panic, an event
//! that is not a request, a function that cannot start, and time that is over.
//!
//! | module | what it holds |
//! |---|---|
//! | `event` | turns Lambda's event into a request |
//! | `request` | what a handler can ask of a request |
//! | `reply` | what it can answer |
//! | `endpoints` | which handler answers which request, and what every answer has in common |
//! | `local_authorizer` | verifies tokens under `cargo lambda watch`; not part of a release build |

mod endpoints;
mod event;
#[cfg(debug_assertions)]
mod local_authorizer;
mod reply;
mod request;

pub use self::{
    endpoints::Endpoints,
    reply::Reply,
    request::{Caller, Request},
};
pub(crate) use self::{
    endpoints::{RESERVED_TIME, not_started},
    event::is_request,
};
