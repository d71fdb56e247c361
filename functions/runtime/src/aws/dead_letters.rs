//! Sends messages that cannot be handled to a dead-letter queue, with the reason.

use std::{collections::HashMap, error, time::Duration};

use aws_sdk_sqs::{
    Client,
    config::timeout::TimeoutConfig,
    types::{
        MessageAttributeValue, MessageSystemAttributeNameForSends::AwsTraceHeader,
        MessageSystemAttributeValue,
    },
};

use crate::{aws, environment, telemetry::xray_header};

/// The message attribute that says why a message is in the dead-letter queue.
const REASON: &str = "reason";
/// Maximum length of a reason, in characters.
const MAX_REASON: usize = 1_000;
/// Maximum size of a message with its attributes, in bytes
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>).
const MAX_MESSAGE: usize = 1024 * 1024;

/// Time-out of one attempt of a call of SQS.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(900);
/// Time-out of a call of SQS, all attempts included: such calls follow a failure, when little time is left.
const CALL_TIMEOUT: Duration = Duration::from_millis(1_400);

/// A client of SQS for what follows the handling of a message.
pub(crate) async fn client() -> Client {
    let time_outs = TimeoutConfig::builder()
        .connect_timeout(ATTEMPT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT);
    let config = aws::traced!(aws_sdk_sqs, aws::config().await).timeout_config(time_outs.build());
    Client::from_conf(config.build())
}

/// A function's dead-letter queue.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    client: Client,
    url: String,
}

impl DeadLetters {
    /// Connects to the queue that the environment variable `DEAD_LETTER_QUEUE_URL` names.
    pub async fn connect() -> Result<Self, environment::Missing> {
        Ok(Self { client: client().await, url: environment::required("DEAD_LETTER_QUEUE_URL")? })
    }

    /// Sends the message unchanged, with the reason in the message attribute `reason`.
    pub async fn send(&self, body: &str, reason: &str) -> Result<(), Box<dyn error::Error + Send + Sync>> {
        let request = self.client.send_message().queue_url(&self.url).message_body(body);
        let request = request.set_message_system_attributes(trace_attribute());
        let reason = fitting(reason, body);
        // An attribute must not be empty.
        let request = if reason.is_empty() {
            request
        } else {
            request.message_attributes(REASON, text(reason.to_owned())?)
        };
        request.send().await?;
        Ok(())
    }
}

/// The part of a reason that fits into a message beside its body: an attribute counts with its name, type and value.
fn fitting<'a>(reason: &'a str, body: &str) -> &'a str {
    let room = MAX_MESSAGE.saturating_sub(body.len() + REASON.len() + "String".len());
    let long_enough = reason.char_indices().nth(MAX_REASON).map_or(reason.len(), |(end, _)| end);
    &reason[..reason.floor_char_boundary(room.min(long_enough))]
}

/// The system attribute that continues the sender's trace.
pub(crate) fn trace_attribute()
-> Option<HashMap<aws_sdk_sqs::types::MessageSystemAttributeNameForSends, MessageSystemAttributeValue>> {
    let value = MessageSystemAttributeValue::builder().data_type("String").string_value(xray_header()?);
    Some(HashMap::from([(AwsTraceHeader, value.build().ok()?)]))
}

/// A message attribute of text.
pub(crate) fn text(value: String) -> Result<MessageAttributeValue, aws_sdk_sqs::error::BuildError> {
    MessageAttributeValue::builder().data_type("String").string_value(value).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_to_what_fits_beside_the_body() {
        assert_eq!(fitting("not an event", "{}"), "not an event");
        assert_eq!(fitting(&"é".repeat(2_000), "{}"), "é".repeat(MAX_REASON));
        let body = "x".repeat(MAX_MESSAGE - 17);
        assert_eq!(fitting("not an event", &body), "not a");
        assert_eq!(fitting("ééé", &body), "éé");
        assert_eq!(fitting("not an event", &"x".repeat(MAX_MESSAGE)), "");
    }
}
