//! The saga's pivot: confirms the order.

use orders::{store::Orders, tasks};
use runtime::{Error, task};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    task::serve(Orders::connect().await?, tasks::confirm).await
}
