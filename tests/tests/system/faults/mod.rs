//! The running system when what it stands on gives way, and how few calls it makes to it. Only copies of functions are disturbed.

mod calls;
mod logs;
mod permissions;
mod refusals;
mod relay;
