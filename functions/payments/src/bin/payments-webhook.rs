//! `POST /payments/webhook`.

use std::process::ExitCode;

use payments::{cashier::Cashier, endpoints};
use runtime::serve::http::Endpoints;

fn main() -> ExitCode {
    runtime::run(async {
        Endpoints::new(Cashier::connect().await?)
            .on("POST", "/payments/webhook", endpoints::webhook)
            .serve()
            .await
    })
}
