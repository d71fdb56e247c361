//! Leaves an order that cannot be settled to a person, or takes it up again after one.

use orders::{store::Orders, tasks};
use runtime::{Error, task};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    task::serve(Orders::connect().await?, tasks::park).await
}
