//! Payments: the money of orders, held, taken and let go through a provider.
//!
//! | module | what it holds |
//! |---|---|
//! | [`payment`] | the aggregate: what a payment is, how it changes, and what a step does next; no I/O |
//! | [`store`] | payments in the table, beside the webhooks that have been heard |
//! | [`cashier`] | carries out what [`payment`] decides, over the table and the provider |
//! | [`provider`] | who moves the money: one of the next two |
//! | [`sandbox`] | the built-in bank that moves none |
//! | [`stripe`] | Stripe's API |
//! | [`webhook`] | the provider's messages: their signature and what they are about |
//! | [`tasks`] | the steps of the order saga |
//! | [`endpoints`] | the HTTP endpoints |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

pub mod cashier;
#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod payment;
pub mod provider;
pub mod sandbox;
pub mod store;
pub mod stripe;
pub mod tasks;
pub mod webhook;
