//! The API's documentation: the document for programs, and a page for people, on which each call can be tried.
//!
//! | module | what it holds |
//! |---|---|
//! | [`files`] | what is served, compressed when the function was built |
//! | [`page`] | the page, with what it has to know of this deployment |
//! | [`endpoints`] | the HTTP endpoints |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod files;
pub mod page;
