//! The pivot's other side: decides that the order will not be confirmed.

use orders::{store::Orders, tasks};
use runtime::{Error, task};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    task::serve(Orders::connect().await?, tasks::abort).await
}
