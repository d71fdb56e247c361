//! Comments on posts, oldest first, with a copy of their authors' names.
//!
//! | module | what it holds |
//! |---|---|
//! | [`comment`] | the aggregate: what a comment is and how it changes; no I/O |
//! | [`store`] | comments in the table, beside copies of posts and users |
//! | [`endpoints`] | the HTTP endpoints |
//! | [`consumers`] | the consumers of events |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

pub mod comment;
pub mod consumers;
#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod store;
