//! `POST /orders`.

use std::process::ExitCode;

use orders::{endpoints, store::Orders};
use runtime::{aws::workflow::Workflow, serve::http::Endpoints, users::UsersClient};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(Endpoints::new((Orders::connect().await?, UsersClient::rpc().await?, Workflow::connect().await?))
            .on("POST", "/orders", endpoints::place))
    })
}
