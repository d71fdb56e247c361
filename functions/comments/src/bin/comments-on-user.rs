//! Consumes `user.created`, `user.updated` and `user.deleted`.

use comments::{consumers, store::Comments};
use runtime::{Error, queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    queue::serve(Comments::connect().await?, consumers::on_user).await
}
