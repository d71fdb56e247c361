//! Sends messages that cannot be handled to a dead-letter queue, with the reason.

use std::{collections::HashMap, error};

use aws_sdk_sqs::{
    Client,
    types::{
        MessageAttributeValue, MessageSystemAttributeNameForSends::AwsTraceHeader,
        MessageSystemAttributeValue,
    },
};

use crate::{aws, environment, telemetry::xray_header};

/// The message attribute that says why a message is in the dead-letter queue.
const REASON: &str = "reason";

/// A function's dead-letter queue.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    client: Client,
    url: String,
}

impl DeadLetters {
    /// Connects to the queue that the environment variable `DEAD_LETTER_QUEUE_URL` names.
    pub async fn connect() -> Result<Self, environment::Missing> {
        Ok(Self { client: aws::client!(aws_sdk_sqs), url: environment::required("DEAD_LETTER_QUEUE_URL")? })
    }

    /// Sends the message unchanged, with the reason in the message attribute `reason`.
    pub async fn send(&self, body: &str, reason: &str) -> Result<(), Box<dyn error::Error + Send + Sync>> {
        // An attribute must not be empty, and counts towards the size limit of a message.
        let reason: String = reason.chars().take(1_000).collect();
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .message_attributes(REASON, text(reason)?)
            .set_message_system_attributes(trace_attribute())
            .send()
            .await?;
        Ok(())
    }
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
