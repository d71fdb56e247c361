//! Sends e-mail with SES.

use aws_sdk_sesv2::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{Body, Content, Destination, EmailContent, Message},
};

use crate::{
    Error, aws, environment,
    telemetry::metrics::{EMAILS_FAILED, EMAILS_SENT},
};

/// Sends from the address that the template names.
#[derive(Clone, Debug)]
pub struct Mailer {
    client: Client,
    from: String,
}

impl Mailer {
    /// Connects to SES, with the environment variable `MAIL_FROM` as the sender.
    pub async fn connect() -> Result<Self, environment::Missing> {
        Ok(Self { client: aws::client!(aws_sdk_sesv2), from: environment::required("MAIL_FROM")? })
    }

    /// Sends one message of plain text.
    pub async fn send(&self, to: &str, subject: &str, text: &str) -> Result<(), Error> {
        let sent = self.try_to_send(to, subject, text).await;
        match &sent {
            Ok(()) => EMAILS_SENT.increment(),
            Err(_) => EMAILS_FAILED.increment(),
        }
        sent
    }

    async fn try_to_send(&self, to: &str, subject: &str, text: &str) -> Result<(), Error> {
        let content = |data: &str| Content::builder().data(data).charset("UTF-8").build();
        let body = Body::builder().text(content(text)?).build();
        let message = Message::builder().subject(content(subject)?).body(body).build();
        let request = self
            .client
            .send_email()
            .from_email_address(&self.from)
            .destination(Destination::builder().to_addresses(to).build())
            .content(EmailContent::builder().simple(message).build());
        match request.send().await {
            Ok(_) => Ok(()),
            // The messages of SES contain addresses: only the name of its error may be logged.
            Err(SdkError::ServiceError(refused)) => {
                let status = refused.raw().status();
                Err(format!("SES answered {status} {}", refused.err().code().unwrap_or_default()).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
