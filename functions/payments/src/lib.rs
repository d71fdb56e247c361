//! Payments: authorizes, captures, cancels and refunds the money of orders through a provider.
//!
//! | module | what it holds |
//! |---|---|
//! | [`payment`] | the aggregate: what a payment is, how it changes, and what a step does next; no I/O |
//! | [`store`] | payments in the table, beside the webhooks that were handled |
//! | [`cashier`] | carries out the decisions of [`payment`], with the table and the provider |
//! | [`provider`] | the payment provider: one of the next two |
//! | [`sandbox`] | the built-in sandbox, which moves no money |
//! | [`stripe`] | Stripe's API |
//! | [`error`] | why a request to a payment provider failed |
//! | [`webhook`] | the provider's webhooks: their signature, their event and its order |
//! | [`tasks`] | the steps of the order saga |
//! | [`endpoints`] | the HTTP endpoints |
//! | `contract` | what the endpoints promise; behind the feature `contract` |

pub mod cashier;
#[cfg(feature = "contract")]
pub mod contract;
pub mod endpoints;
pub mod error;
pub mod payment;
pub mod provider;
pub mod sandbox;
pub mod store;
pub mod stripe;
pub mod tasks;
pub mod webhook;
