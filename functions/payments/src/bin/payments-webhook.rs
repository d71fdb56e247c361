//! `POST /payments/webhook`.

use std::process::ExitCode;

use payments::{cashier::Cashier, endpoints};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new(Cashier::connect().await?).on("POST", "/payments/webhook", endpoints::webhook))
    })
}
