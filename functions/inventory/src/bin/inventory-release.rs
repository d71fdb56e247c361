//! `ReleaseInventory` of the order saga.

use inventory::{store::Inventory, tasks};
use runtime::{Error, task};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    task::serve(Inventory::connect().await?, tasks::release).await
}
