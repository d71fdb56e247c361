//! Serves a function that reads a table's stream.

use std::time::Duration;

use aws_lambda_events::{
    dynamodb::EventRecord,
    streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse},
};
use futures::FutureExt;
use lambda_runtime::{Context, Diagnostic};
use serde::{Deserialize, de::DeserializeOwned};
use serde_dynamo::Item;
use serde_json::value::RawValue;

use super::Function;
use crate::{deadline::Deadline, telemetry};

/// The part of an invocation's time that is kept for its answer.
const RESERVED_TIME: Duration = Duration::from_secs(1);

/// A batch of records. Each is read by itself, so that one that cannot be read does not hold up the others.
#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Box<RawValue>>,
}

/// A record of a stream: one change of an item.
#[derive(Debug)]
pub struct StreamRecord {
    /// The position in the stream, by which a failed record is reported.
    pub sequence_number: String,
    /// The record as it came, for a person to read.
    pub raw: String,
    /// The item before the change and after it, each empty if there was none; or why the record cannot be read.
    images: Result<(Item, Item), String>,
}

/// The position of a record of which nothing else can be read.
#[derive(Default, Deserialize)]
struct Position {
    dynamodb: PositionInStream,
}

#[derive(Default, Deserialize)]
struct PositionInStream {
    #[serde(rename = "SequenceNumber")]
    sequence_number: String,
}

impl StreamRecord {
    /// The change from one image to another. An image is empty if there was no item before, or is none afterwards.
    pub fn new(sequence_number: impl Into<String>, old: impl Into<Item>, new: impl Into<Item>) -> Self {
        let images = Ok((old.into(), new.into()));
        Self { sequence_number: sequence_number.into(), raw: String::new(), images }
    }

    fn read(record: &RawValue) -> Self {
        let raw = record.get().to_owned();
        match serde_json::from_str::<EventRecord>(&raw) {
            Ok(EventRecord { change, .. }) => {
                let sequence_number = change.sequence_number.unwrap_or_default();
                Self { raw, ..Self::new(sequence_number, change.old_image, change.new_image) }
            }
            Err(error) => {
                let position: Position = serde_json::from_str(&raw).unwrap_or_default();
                let sequence_number = position.dynamodb.sequence_number;
                Self { sequence_number, raw, images: Err(error.to_string()) }
            }
        }
    }

    /// The item before the change, if there was one; an error if it does not have the attributes of `T`.
    pub fn old_image<T: DeserializeOwned>(&self) -> Result<Option<T>, String> {
        let (old, _) = self.images.as_ref()?;
        read_image(old)
    }

    /// The item after the change, if there is one; an error if it does not have the attributes of `T`.
    pub fn new_image<T: DeserializeOwned>(&self) -> Result<Option<T>, String> {
        let (_, new) = self.images.as_ref()?;
        read_image(new)
    }
}

fn read_image<T: DeserializeOwned>(image: &Item) -> Result<Option<T>, String> {
    if image.is_empty() {
        return Ok(None);
    }
    serde_dynamo::from_item(image.clone()).map(Some).map_err(|error| error.to_string())
}

/// A function that reads a stream.
#[derive(Debug)]
struct Reader<S, H> {
    state: S,
    handler: H,
}

/// Passes each batch to `handler`, in the stream's order, with the time by which it must be done. It returns the sequence numbers of the
/// records that failed. Lambda delivers the batch again from the lowest of them on.
pub fn serve<S, H>(state: S, handler: H) -> impl Function
where
    H: AsyncFn(&S, Vec<StreamRecord>, Deadline) -> Vec<String>,
{
    Reader { state, handler }
}

impl<S, H> Function for Reader<S, H>
where
    H: AsyncFn(&S, Vec<StreamRecord>, Deadline) -> Vec<String>,
{
    async fn handle(&self, event: &RawValue, context: &Context) -> Result<Box<RawValue>, Diagnostic> {
        let deadline = Deadline::of(context).reserving(RESERVED_TIME);
        let failed = telemetry::invocation(context, telemetry::Kind::Consumer, "stream", None, async |unit| {
            let batch: Batch = serde_json::from_str(event.get()).map_err(|error| {
                unit.fail("Unreadable");
                tracing::error!(cause = %error, "not a batch of a stream");
                super::failed(&error)
            })?;
            let records: Vec<_> = batch.records.iter().map(|record| StreamRecord::read(record)).collect();
            let first = records.first().map(|record| record.sequence_number.clone());
            // Boxed, so that the function's future does not contain the handler's.
            let handled = (self.handler)(&self.state, records, deadline).boxed_local();
            Ok::<_, Diagnostic>(deadline.bound(handled).await.unwrap_or_else(|timed_out| {
                unit.fail(super::UNAVAILABLE);
                tracing::error!(cause = %timed_out, "ended before its time was over; the batch is delivered again");
                first.into_iter().collect()
            }))
        })
        .await?;
        let mut response = DynamoDbEventResponse::default();
        for sequence_number in failed {
            let mut failure = DynamoDbBatchItemFailure::default();
            failure.item_identifier = Some(sequence_number);
            response.batch_item_failures.push(failure);
        }
        super::answer(&response)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn record(new_image: &Value) -> StreamRecord {
        let change = json!({"SequenceNumber": "7", "SizeBytes": 9, "Keys": {}, "NewImage": new_image, "StreamViewType": "NEW_AND_OLD_IMAGES"});
        StreamRecord::read(
            &to_raw_value(
                &json!({"eventID": "1", "eventName": "MODIFY", "awsRegion": "us-east-1", "dynamodb": change}),
            )
            .unwrap(),
        )
    }

    #[test]
    fn a_record_that_cannot_be_read_keeps_its_position_and_text_and_is_an_error() {
        let unreadable = record(&json!({"outbox": {"X": "?"}}));
        assert_eq!(unreadable.sequence_number, "7");
        assert!(unreadable.raw.contains(r#""X":"?""#), "{}", unreadable.raw);
        assert!(unreadable.new_image::<Value>().is_err() && unreadable.old_image::<Value>().is_err());
    }

    #[test]
    fn an_image_that_is_not_there_is_none() {
        let removed = record(&json!({}));
        assert_eq!(removed.new_image::<Value>(), Ok(None));
        let written = record(&json!({"pk": {"S": "post#1"}}));
        assert_eq!(written.new_image::<Value>(), Ok(Some(json!({"pk": "post#1"}))));
        assert_eq!(written.old_image::<Value>(), Ok(None));
    }
}
