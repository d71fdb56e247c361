//! Every minute: starts executions that were not started, and new ones if an execution ended without settling its order.

use std::process::ExitCode;

use orders::{reconciler, store::Orders};
use runtime::{aws::workflow::Workflow, serve::schedule};

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(schedule::serve((Orders::connect().await?, Workflow::connect().await?), reconciler::reconcile))
    })
}
