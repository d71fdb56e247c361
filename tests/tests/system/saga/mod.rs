//! The order saga on the deployed state machine, without faults.

mod cancellation;
mod path;
mod reconciler;
