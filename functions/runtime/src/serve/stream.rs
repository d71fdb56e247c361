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
use serde_json::{Map, Value, value::RawValue};

use super::Function;
use crate::{
    deadline::Deadline,
    error::{Unreadable, read_item, read_json},
    telemetry,
};

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
    /// The record as it came.
    raw: String,
    /// The item before the change and after it, each empty if there was none; or why the record cannot be read.
    images: Result<(Item, Item), Unreadable>,
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
    /// A record as Lambda delivers it.
    pub fn read(record: &RawValue) -> Self {
        let raw = record.get().to_owned();
        let (sequence_number, images) = match read_json::<EventRecord>(raw.as_bytes()) {
            Ok(EventRecord { change, .. }) => {
                (change.sequence_number.unwrap_or_default(), Ok((change.old_image, change.new_image)))
            }
            Err(error) => {
                let position: Position = serde_json::from_str(&raw).unwrap_or_default();
                (position.dynamodb.sequence_number, Err(error))
            }
        };
        Self { sequence_number, raw, images }
    }

    /// The item before the change, if there was one; an error if it does not have the attributes of `T`.
    pub fn old_image<T: DeserializeOwned>(&self) -> Result<Option<T>, Unreadable> {
        let (old, _) = self.images.as_ref().map_err(Clone::clone)?;
        read_image(old)
    }

    /// The item after the change, if there is one; an error if it does not have the attributes of `T`.
    pub fn new_image<T: DeserializeOwned>(&self) -> Result<Option<T>, Unreadable> {
        let (_, new) = self.images.as_ref().map_err(Clone::clone)?;
        read_image(new)
    }

    /// The record as it came, in JSON, without the old image, and with these attributes alone of the new one. It can be delivered again.
    pub fn with_only(&self, attributes: &[&str]) -> String {
        let mut record: Map<String, Value> = serde_json::from_str(&self.raw).unwrap_or_default();
        record.retain(|name, _| OF_RECORD.contains(&name.as_str()));
        if let Some(Value::Object(change)) = record.get_mut("dynamodb") {
            // An image that is not an object has no attributes, and could be any text.
            change.retain(|name, value| match name.as_str() {
                "Keys" | "NewImage" => value.is_object(),
                name => OF_CHANGE.contains(&name),
            });
            if let Some(Value::Object(image)) = change.get_mut("NewImage") {
                image.retain(|name, _| attributes.contains(&name.as_str()));
            }
        } else {
            record.remove("dynamodb");
        }
        Value::Object(record).to_string()
    }
}

/// What [`StreamRecord::with_only`] keeps of a record beside attributes of the item: what DynamoDB says about the change
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html>).
const OF_RECORD: [&str; 7] =
    ["awsRegion", "dynamodb", "eventID", "eventName", "eventSource", "eventSourceARN", "eventVersion"];
const OF_CHANGE: [&str; 4] = ["ApproximateCreationDateTime", "SequenceNumber", "SizeBytes", "StreamViewType"];

fn read_image<T: DeserializeOwned>(image: &Item) -> Result<Option<T>, Unreadable> {
    if image.is_empty() {
        return Ok(None);
    }
    read_item(image.clone()).map(Some)
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
            let batch: Batch = read_json(event.get().as_bytes()).map_err(|error| {
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
    fn a_record_that_cannot_be_read_keeps_its_position_and_is_an_error_that_does_not_quote_it() {
        let unreadable = record(&json!({"email": "ara@example.com", "outbox": {"X": "?"}}));
        assert_eq!(unreadable.sequence_number, "7");
        assert!(unreadable.old_image::<Value>().is_err());
        let error = unreadable.new_image::<Value>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("ara"), "{error}");
    }

    #[test]
    fn an_image_that_does_not_fit_is_an_error_that_does_not_quote_it() {
        #[derive(Debug, Deserialize)]
        struct Expected {
            #[serde(rename = "email")]
            _email: u64,
        }
        let written = record(&json!({"email": {"S": "ara@example.com"}}));
        let error = written.new_image::<Expected>().unwrap_err();
        assert_eq!(error.to_string(), "Expected num at email");
    }

    #[test]
    fn a_record_with_only_some_attributes_has_nothing_else_of_the_item() {
        let keys = json!({"pk": {"S": "user#1"}});
        let image = json!({"pk": {"S": "user#1"}, "email": {"S": "ara@example.com"}, "outbox": {"X": "?"}});
        let change = json!({"SequenceNumber": "7", "Keys": keys, "NewImage": image, "OldImage": image});
        let whole = json!({"eventName": "MODIFY", "dynamodb": change, "email": "ara@example.com"});
        let reduced = StreamRecord::read(&to_raw_value(&whole).unwrap()).with_only(&["pk", "outbox"]);
        let image = json!({"pk": {"S": "user#1"}, "outbox": {"X": "?"}});
        let change = json!({"SequenceNumber": "7", "Keys": keys, "NewImage": image});
        let expected = json!({"eventName": "MODIFY", "dynamodb": change});
        assert_eq!(serde_json::from_str::<Value>(&reduced).unwrap(), expected);
    }

    #[test]
    fn nothing_is_left_of_an_image_that_is_none_but_the_keys_and_the_position() {
        for image in [json!("ara@example.com"), json!(["ara@example.com"])] {
            let change = json!({"SequenceNumber": "7", "Keys": {"pk": {"S": "user#1"}}, "NewImage": image});
            let record = to_raw_value(&json!({"dynamodb": change})).unwrap();
            let reduced = StreamRecord::read(&record).with_only(&["pk", "outbox"]);
            let change = json!({"SequenceNumber": "7", "Keys": {"pk": {"S": "user#1"}}});
            assert_eq!(serde_json::from_str::<Value>(&reduced).unwrap(), json!({"dynamodb": change}));
        }
        for record in [json!("ara@example.com"), json!({"dynamodb": "ara@example.com"})] {
            let reduced = StreamRecord::read(&to_raw_value(&record).unwrap()).with_only(&["pk"]);
            assert_eq!(reduced, "{}");
        }
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
