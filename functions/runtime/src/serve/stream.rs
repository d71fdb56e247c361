//! Serves a function that reads a table's stream.

use aws_lambda_events::{
    dynamodb::Event,
    streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse},
};
use futures::FutureExt;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::de::DeserializeOwned;
use serde_dynamo::Item;

use crate::telemetry;

/// A record of a stream: one change of an item.
#[derive(Debug)]
pub struct StreamRecord {
    /// The position in the stream, by which a failed record is reported.
    pub sequence_number: String,
    old: Item,
    new: Item,
}

impl StreamRecord {
    /// The change from one image to another. An image is empty if there was no item before, or is none afterwards.
    pub fn new(sequence_number: impl Into<String>, old: impl Into<Item>, new: impl Into<Item>) -> Self {
        Self { sequence_number: sequence_number.into(), old: old.into(), new: new.into() }
    }

    /// The item before the change, if there was one and it has the attributes of `T`.
    pub fn old_image<T: DeserializeOwned>(&self) -> Option<T> {
        serde_dynamo::from_item(self.old.clone()).ok()
    }

    /// The item after the change; an error if it does not have the attributes of `T`.
    pub fn new_image<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_dynamo::from_item(self.new.clone()).map_err(|error| error.to_string())
    }
}

/// Handles records until Lambda ends the process. `handler` gets a batch in the stream's order and returns the sequence
/// numbers of those that failed. Lambda redelivers the batch from the lowest of
/// them on.
pub async fn serve<S, H>(state: S, handler: H) -> Result<(), Error>
where
    H: AsyncFn(&S, Vec<StreamRecord>) -> Vec<String>,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Event>| {
        let records = event.payload.records.into_iter().map(|record| StreamRecord {
            sequence_number: record.change.sequence_number.unwrap_or_default(),
            old: record.change.old_image,
            new: record.change.new_image,
        });
        let context = &event.context;
        let failed = telemetry::invocation(context, telemetry::Kind::Consumer, "stream", None, async |_| {
            // Boxed, so that the function's future does not contain the handler's.
            handler(&state, records.collect()).boxed_local().await
        })
        .await;
        let mut response = DynamoDbEventResponse::default();
        for sequence_number in failed {
            let mut failure = DynamoDbBatchItemFailure::default();
            failure.item_identifier = Some(sequence_number);
            response.batch_item_failures.push(failure);
        }
        Ok::<_, Error>(response)
    }))
    .await
}
