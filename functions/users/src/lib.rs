//! Users and their profiles.
//!
//! | module | what it holds |
//! |---|---|
//! | [`profile`] | the aggregate: what a profile is and how it changes; no I/O |
//! | [`store`] | profiles in the table |
//! | [`endpoints`] | the HTTP endpoints and the remote procedure call |
//! | [`consumers`] | the consumers of events |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

pub mod consumers;
#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod profile;
pub mod store;
