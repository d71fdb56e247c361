//! Publishes the events of a table's stream. Deployed once per service.

use relay::Relay;
use runtime::{Error, stream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    stream::serve(Relay::connect().await?, async |relay, changes| relay.publish(changes).await).await
}
