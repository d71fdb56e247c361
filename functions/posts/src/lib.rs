//! Posts, newest first, with a copy of their authors' names.
//!
//! | module | what it holds |
//! |---|---|
//! | [`post`] | the aggregate: what a post is and how it changes; no I/O |
//! | [`store`] | posts in the table |
//! | [`endpoints`] | the HTTP endpoints |
//! | [`consumers`] | the consumers of events |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

pub mod consumers;
#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod post;
pub mod store;
