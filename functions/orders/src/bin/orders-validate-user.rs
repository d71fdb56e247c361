//! The saga's first step: does the buyer exist?

use orders::{store::Orders, tasks};
use runtime::{Error, task, users::UsersClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    task::serve((Orders::connect().await?, UsersClient::http().await?), tasks::validate_user).await
}
