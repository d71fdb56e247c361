//! Comments: what people say about posts, oldest first, with a copy of their names.
//!
//! | module | what it holds |
//! |---|---|
//! | [`comment`] | the aggregate: what a comment is and how it changes; no I/O |
//! | [`store`] | comments in the table, beside copies of posts and users |
//! | [`endpoints`] | the HTTP endpoints |
//! | [`consumers`] | what follows from events |

pub mod comment;
pub mod consumers;
pub mod endpoints;
pub mod store;
