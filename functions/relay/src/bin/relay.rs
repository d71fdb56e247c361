//! Publishes the events of a table's stream. Deployed once per service.

use std::process::ExitCode;

use relay::Relay;
use runtime::serve::stream;

fn main() -> ExitCode {
    runtime::run(async || {
        Ok(stream::serve(Relay::connect().await?, async |relay, records, deadline| {
            relay.publish(records, deadline).await
        }))
    })
}
