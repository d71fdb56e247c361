//! Inventory: what there is to buy, what it costs, and what is promised to orders.
//!
//! | module | what it holds |
//! |---|---|
//! | [`stock`] | stock items: what there is of a thing, and what each movement does to it; no I/O |
//! | [`reservation`] | what the orders saga asks for, decided: promise, take back, sell; no I/O |
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
