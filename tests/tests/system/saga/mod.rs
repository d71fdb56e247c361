//! The order saga against the deployed state machine, where nothing fails in it.

mod cancellation;
mod path;
mod reconciler;
