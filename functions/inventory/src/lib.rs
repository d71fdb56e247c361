//! Inventory: stock items, their prices, and the reservations of orders.
//!
//! | module | what it holds |
//! |---|---|
//! | [`stock`] | stock items, and how each movement changes them; no I/O |
//! | [`reservation`] | the decisions that the order saga asks for: reserve, release, commit; no I/O |
//! | [`store`] | stock items and reservations in the table |
//! | [`endpoints`] | the HTTP endpoints |
//! | [`tasks`] | the steps of the order saga |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod reservation;
pub mod stock;
pub mod store;
pub mod tasks;
