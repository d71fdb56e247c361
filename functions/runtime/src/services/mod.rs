//! The other services of the system: where they are, and calls to them.
//!
//! | module | what it does |
//! |---|---|
//! | [`calls`] | gets an entity from another service: one client, two transports |
//! | [`directory`] | finds a service, in the environment or in Cloud Map |

pub mod calls;
pub mod directory;
