//! `AuthorizePayment` of the order saga.

use payments::{cashier::Cashier, tasks};
use runtime::{Error, task};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    task::serve(Cashier::connect().await?, tasks::authorize).await
}
