//! Consumes what happens to orders.

use notifications::{consumers, store::Notifications};
use runtime::{Error, queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    queue::serve(Notifications::connect().await?, consumers::on_order).await
}
