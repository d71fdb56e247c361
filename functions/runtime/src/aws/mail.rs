//! Sends e-mail with SES.

use aws_sdk_sesv2::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{Body, Content, Destination, EmailContent, Message},
};
use email_encoding::headers::{rfc2047, writer::EmailWriter};

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
        let message = Message::builder().subject(content(&encoded(subject)?)?).body(body).build();
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

/// The subject as the header's text. SES puts ASCII into the header as it is, encoded words (RFC 2047) included, and by its
/// documentation takes nothing else. So a subject that is not plain ASCII is encoded here, as a whole: also one that has the
/// beginning of an encoded word, or else a mail client would show what is encoded in someone's name in place of the name.
fn encoded(subject: &str) -> Result<String, std::fmt::Error> {
    if subject.chars().all(|c| matches!(c, ' '..='~')) && !subject.contains("=?") {
        return Ok(subject.to_owned());
    }
    let mut lines = String::new();
    rfc2047::encode(subject, &mut EmailWriter::new(&mut lines, "Subject: ".len(), 0, false))?;
    // SES takes one line, and folds it by itself. What is between two encoded words is not part of the text.
    Ok(lines.replace("\r\n", ""))
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;

    use super::*;

    /// The subject that a mail client shows.
    fn shown(header: &str) -> String {
        let mail = format!("Subject: {header}\r\n\r\n");
        MessageParser::default().parse(&mail).unwrap().subject().unwrap().to_owned()
    }

    #[test]
    fn a_plain_subject_is_sent_as_it_is() {
        assert_eq!(encoded("We have received your order").unwrap(), "We have received your order");
    }

    #[test]
    fn a_mail_client_shows_exactly_the_subject() {
        for subject in [
            "Your order is confirmed",
            "New comment by \u{2068}마당 👩‍👩‍👧\u{2069}",
            "New comment by =?utf-8?q?Madang_Security?=",
            "=?utf-8?b?TWFkYW5nIFNlY3VyaXR5?= =?utf-8?b?TWFkYW5n?=",
            "a =? b",
            "?= =",
        ] {
            assert_eq!(shown(&encoded(subject).unwrap()), subject);
        }
        // The decoder would show the hidden text if the subject were not encoded.
        assert_eq!(shown("New comment by =?utf-8?q?Madang_Security?="), "New comment by Madang Security");
    }

    #[test]
    fn the_header_is_one_line_of_ascii_below_998_bytes() {
        for subject in ["👩".repeat(100), "=?".repeat(200), "a\r\nBcc: eve@example.com".to_owned()] {
            let encoded = encoded(&subject).unwrap();
            assert!(encoded.chars().all(|c| matches!(c, ' '..='~')), "{encoded}");
            assert!("Subject: ".len() + encoded.len() < 998, "{encoded}");
            assert!(encoded.split(' ').all(|word| word.len() <= 75), "{encoded}");
        }
    }
}
