//! `POST /orders`.

use std::process::ExitCode;

use orders::{endpoints, store::Orders};
use runtime::{
    aws::workflow::Workflow, serve::http::Endpoints, table::limits::HourlyLimit, users::UsersClient,
};

fn main() -> ExitCode {
    runtime::run(async || {
        let limit = HourlyLimit::from_environment("ORDERS_PER_HOUR", "orders")?;
        let (users, workflow) = (UsersClient::rpc().await?, Workflow::connect().await?);
        Ok(Endpoints::new((Orders::connect().await?, users, workflow, limit)).on(
            "POST",
            "/orders",
            endpoints::place,
        ))
    })
}
