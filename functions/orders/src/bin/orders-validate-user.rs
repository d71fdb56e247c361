//! The saga's first step: checks that the buyer exists.

use std::process::ExitCode;

use orders::{store::Orders, tasks};
use runtime::{serve::task, users::UsersClient};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(task::serve((Orders::connect().await?, UsersClient::http().await?), tasks::validate_user))
    })
}
