//! Orders: what people want from the stock, and the saga that settles each of them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`order`] | the aggregate: what an order is and how it changes; no I/O |
//! | [`draft`] | what `POST /orders` takes |
//! | [`store`] | orders in the table, beside copies of users |
//! | [`endpoints`] | the HTTP endpoints |
//! | [`tasks`] | the saga's steps that are the orders' own |
//! | [`reconciler`] | starts what was not started, and anew what ended without settling its order |
//! | [`consumers`] | what follows from events |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

pub mod consumers;
#[cfg(feature = "contract")]
pub mod contract;
pub mod draft;
pub mod endpoints;
pub mod order;
pub mod reconciler;
pub mod store;
pub mod tasks;
