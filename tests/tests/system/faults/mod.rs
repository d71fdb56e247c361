//! The running system while an AWS service fails, and how few calls of AWS it makes. Only copies of functions are affected.

mod bad_input;
mod black_holes;
mod calls;
mod cascades;
mod logs;
mod lost_answers;
mod permissions;
mod refusals;
mod relay;
