//! The running system while an AWS service fails, and how few calls of AWS it makes. Only copies of functions are affected.

mod calls;
mod logs;
mod permissions;
mod refusals;
mod relay;
