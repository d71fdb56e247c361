//! Sends e-mail with SES.

use aws_sdk_sesv2::{
    Client,
    types::{Body, Content, Destination, EmailContent, Message},
};

use crate::{
    aws, environment,
    metrics::{EMAILS_FAILED, EMAILS_SENT},
    queue::Failure,
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
    pub async fn send(&self, to: &str, subject: &str, text: &str) -> Result<(), Failure> {
        let sent = async {
            let content = |data: &str| Content::builder().data(data).charset("UTF-8").build();
            let body = Body::builder().text(content(text)?).build();
            let message = Message::builder().subject(content(subject)?).body(body).build();
            self.client
                .send_email()
                .from_email_address(&self.from)
                .destination(Destination::builder().to_addresses(to).build())
                .content(EmailContent::builder().simple(message).build())
                .send()
                .await?;
            Ok(())
        };
        let sent = sent.await;
        if sent.is_ok() {
            EMAILS_SENT.one();
        } else {
            EMAILS_FAILED.one();
        }
        sent.map_err(Failure::Temporary)
    }
}
