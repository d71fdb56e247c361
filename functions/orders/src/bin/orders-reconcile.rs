//! Every minute: starts what was not started, and anew what ended without settling its order.

use orders::{reconciler, store::Orders};
use runtime::{Error, schedule, workflow::Workflow};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    schedule::serve((Orders::connect().await?, Workflow::connect().await?), reconciler::reconcile).await
}
