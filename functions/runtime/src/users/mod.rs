//! The users service as the other services see it.
//!
//! | module | what it does |
//! |---|---|
//! | `client` | asks the users service about a user |
//! | [`user_copies`] | a service's own copy of the users' names |

mod client;
pub mod user_copies;

pub use self::client::{LookupInput, LookupOutput, User, UsersClient};
