//! Notifications: a list for each user and, for those who want it, mail.
//!
//! | module | what it holds |
//! |---|---|
//! | [`notification`] | the text of a notification, its recipient, and when it counts as read; no I/O |
//! | [`store`] | notifications and settings in the table |
//! | [`endpoints`] | the HTTP endpoints |
//! | [`consumers`] | the consumers of events |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

pub mod consumers;
#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod notification;
pub mod store;
