//! Consumes `notification.created`.

use notifications::{consumers, store::Notifications};
use runtime::{Error, mail::Mailer, queue, users::UsersClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let state = (Notifications::connect().await?, UsersClient::http().await?, Mailer::connect().await?);
    queue::serve(state, consumers::email).await
}
