//! Puts what cannot be handled into a dead-letter queue, with the reason.

use std::error;

use aws_sdk_sqs::{Client, types::MessageAttributeValue};

use crate::{aws, environment};

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
        Ok(Self {
            client: Client::new(aws::config().await),
            url: environment::required("DEAD_LETTER_QUEUE_URL")?,
        })
    }

    /// Sends the message as it came, with the reason in the message attribute `reason`.
    pub async fn send(&self, body: &str, reason: &str) -> Result<(), Box<dyn error::Error + Send + Sync>> {
        // An attribute counts towards the size of a message, which is limited, and may not be empty.
        let reason: String = reason.chars().take(1_000).collect();
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .message_attributes(REASON, text(reason)?)
            .send()
            .await?;
        Ok(())
    }
}

/// A message attribute of text.
pub(crate) fn text(value: String) -> Result<MessageAttributeValue, aws_sdk_sqs::error::BuildError> {
    MessageAttributeValue::builder().data_type("String").string_value(value).build()
}
