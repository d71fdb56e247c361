//! The registry: the addresses of services, read and changed at run time.
//!
//! | module | what it holds |
//! |---|---|
//! | [`registration`] | the instances that can be registered, and their names; no I/O |
//! | [`endpoints`] | the HTTP endpoints |
//! | `contract` | what the endpoints promise; behind the feature `contract` |
//!
//! The instances themselves are in AWS Cloud Map: [`runtime::aws::cloud_map`].

#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod registration;
