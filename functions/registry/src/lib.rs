//! The registry: where services are, read and changed at run time.
//!
//! | module | what it holds |
//! |---|---|
//! | [`registration`] | what can be registered, and under which names; no I/O |
//! | [`endpoints`] | the HTTP endpoints |
//! | `contract` | what the endpoints promise; behind the feature `contract` |
//!
//! The instances themselves are AWS Cloud Map's: [`runtime::cloud_map`].

#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod registration;
