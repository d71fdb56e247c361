//! `POST /orders`.

use std::process::ExitCode;

use orders::{endpoints, store::Orders};
use runtime::{http::Endpoints, users::UsersClient, workflow::Workflow};

fn main() -> ExitCode {
    runtime::run(async {
        Endpoints::new((Orders::connect().await?, UsersClient::rpc().await?, Workflow::connect().await?))
            .on("POST", "/orders", endpoints::place)
            .serve()
            .await
    })
}
