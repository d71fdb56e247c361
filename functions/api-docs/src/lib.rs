//! The API's documentation: the OpenAPI document for programs, and a page for people on which each call can be tried.
//!
//! | module | what it holds |
//! |---|---|
//! | [`files`] | the served files, compressed at build time |
//! | [`page`] | the page, with the settings of this deployment |
//! | [`endpoints`] | the HTTP endpoints |
//! | `contract` | the contract of the endpoints; behind the feature `contract` |

#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod files;
pub mod page;
