//! The order saga on the deployed state machine: every order settles, whatever fails on the way.

mod attempts;
mod faults;
mod load;
mod parking;
