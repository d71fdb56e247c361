//! Orders, and the saga that settles each of them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`order`] | the aggregate: what an order is and how it changes; no I/O |
//! | [`draft`] | the body of `POST /orders` |
//! | [`store`] | orders in the table, beside copies of users |
//! | [`endpoints`] | the HTTP endpoints |
//! | [`tasks`] | the saga's steps that the orders service runs |
//! | [`reconciler`] | starts executions that were not started, and new ones if an execution ended without settling its order |
//! | [`metrics`] | the metrics of orders |
//! | [`consumers`] | the consumers of events |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

pub mod consumers;
#[cfg(feature = "contract")]
pub mod contract;
pub mod draft;
pub mod endpoints;
pub mod metrics;
pub mod order;
pub mod reconciler;
pub mod store;
pub mod tasks;
