//! What several services share: pure values and rules, without I/O and without AWS.
//!
//! | module | what it holds |
//! |---|---|
//! | [`address`] | where a service can be reached: a base URL, a function's ARN |
//! | [`problem`] | errors as clients see them: RFC 9457 problem details |
//! | [`input`] | reading a JSON body field by field, with every mistake reported at its JSON pointer |
//! | [`json`] | reading JSON in which no name occurs twice |
//! | [`text`] | text that shows something, is not too long and has no control characters; its excerpts |
//! | [`id`] | identifiers: new ones, and ones derived from an idempotency key |
//! | [`clock`] | points in time as the API writes them |
//! | [`idempotency`] | the `Idempotency-Key` header and the digest of a request |
//! | [`money`] | amounts in minor units of a currency |
//! | [`precondition`] | preconditions: `If-Match`, `If-None-Match`, and versions as entity tags |
//! | [`page`] | `limit`, `cursor` and a page of items |
//! | [`event`] | the CloudEvents envelope in which every event travels |
//! | [`saga`] | why steps of the order saga refuse, by public names, and the status of its executions |
//! | `contract` | what an endpoint promises, for documents; behind the feature `contract` |

pub mod address;
pub mod clock;
#[cfg(feature = "contract")]
pub mod contract;
pub mod event;
pub mod id;
pub mod idempotency;
pub mod input;
pub mod json;
pub mod money;
pub mod page;
pub mod precondition;
pub mod problem;
pub mod saga;
pub mod text;
