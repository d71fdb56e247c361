//! What the API and the events promise: the committed documents say what the code says. `make contract` writes them anew.

mod events;
mod gate;
mod generated;
mod openapi;
mod release;
