//! The contract of the API and of the events: the committed documents match the code. `make contract` rewrites them.

mod events;
mod gate;
mod generated;
mod openapi;
mod release;
mod text;
