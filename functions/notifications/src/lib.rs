//! Notifications: what a person should know of, in a list and, for those who want it, by mail.
//!
//! | module | what it holds |
//! |---|---|
//! | [`notification`] | what a notification says, when it counts as read, who is told of what; no I/O |
//! | [`store`] | notifications and settings in the table |
//! | [`endpoints`] | the HTTP endpoints |
//! | [`consumers`] | what follows from events |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

pub mod consumers;
#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod notification;
pub mod store;
