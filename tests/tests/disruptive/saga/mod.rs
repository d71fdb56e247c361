//! The order saga against the deployed state machine: it settles, whatever fails on the way.

mod attempts;
mod faults;
mod load;
mod parking;
