//! Consumes `user.created`, `user.updated` and `user.deleted`.

use orders::{consumers, store::Orders};
use runtime::{Error, queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    queue::serve(Orders::connect().await?, consumers::on_user).await
}
