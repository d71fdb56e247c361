//! The running system when what it stands on gives way, and how few calls it makes to it.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail this way")]

mod calls;
mod crashes;
mod logs;
mod permissions;
mod refusals;
mod relay;

use tokio::sync::Mutex;

/// Held by who disturbs a function that all use, so that the disturbances come one after another.
static DISTURBANCE: Mutex<()> = Mutex::const_new(());
