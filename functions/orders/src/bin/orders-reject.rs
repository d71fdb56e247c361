//! The saga's last compensation: settles an order of which all is undone.

use orders::{store::Orders, tasks};
use runtime::{Error, task};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    task::serve(Orders::connect().await?, tasks::reject).await
}
