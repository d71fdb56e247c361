//! Consumes `user.deleted`.

use runtime::{Error, identity_provider::UserPool, queue};
use users::consumers;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    queue::serve(UserPool::connect().await?, consumers::on_user).await
}
