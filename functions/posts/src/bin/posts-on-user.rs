//! Consumes `user.created`, `user.updated` and `user.deleted`.

use posts::{consumers, store::Posts};
use runtime::{Error, queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    queue::serve(Posts::connect().await?, consumers::on_user).await
}
