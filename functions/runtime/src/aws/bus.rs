//! Puts events on the event bus.

use std::slice;

use aws_config::retry::RetryConfig;
use aws_sdk_eventbridge::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::put_events::PutEventsError,
    types::PutEventsRequestEntry,
};
use thiserror::Error;

use crate::{aws, environment, error::chain};

/// Maximum entries of one `PutEvents` call.
pub const MAX_ENTRIES: usize = 10;

/// The codes of entries that a retry cannot help
/// (<https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html>). Any other code may be temporary.
const PERMANENT: [&str; 7] = [
    "AccessDeniedException",
    "InvalidAccountIdException",
    "InvalidArgument",
    "MalformedDetail",
    "NotAuthorizedForDetailTypeException",
    "NotAuthorizedForSourceException",
    "RedactionFailure",
];
/// The code of a call that has an entry that is too large, or otherwise not valid.
const INVALID: &str = "ValidationException";
/// The code of a call that is not allowed, perhaps because of one of its entries.
const DENIED: &str = "AccessDeniedException";

/// Why the bus did not accept an event.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It may accept it later.
    #[error("{0}")]
    Retryable(String),
    /// It never accepts it as it is.
    #[error("{0}")]
    Permanent(String),
}

impl Refusal {
    /// The refusal of an entry with this code and message.
    fn of_entry(code: Option<&str>, message: Option<&str>) -> Self {
        let code = code.unwrap_or("no event id");
        let reason = [Some(code), message].into_iter().flatten().collect::<Vec<_>>().join(": ");
        if PERMANENT.contains(&code) { Self::Permanent(reason) } else { Self::Retryable(reason) }
    }

    /// The refusal of a call with one entry. `others_accepted` says whether the bus accepted others at the same time: only then it is
    /// this entry that is denied, and not the function.
    fn of_call(code: Option<&str>, reason: String, others_accepted: bool) -> Self {
        match code {
            Some(INVALID) => Self::Permanent(reason),
            Some(DENIED) if others_accepted => Self::Permanent(reason),
            _ => Self::Retryable(reason),
        }
    }
}

/// An event, ready for the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `madang.<service>`.
    pub source: String,
    /// The event's name.
    pub detail_type: String,
    /// The event as JSON.
    pub detail: String,
    /// The trace that it belongs to, as an X-Ray header.
    pub trace_header: Option<String>,
}

/// The event bus.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    name: String,
}

impl Bus {
    /// Connects to the bus that the environment variable `EVENT_BUS` names.
    pub async fn connect() -> Result<Self, environment::Missing> {
        // The relay retries, because the SDK would not retry single entries.
        let config =
            aws::traced!(aws_sdk_eventbridge, aws::config().await).retry_config(RetryConfig::disabled());
        let client = Client::from_conf(config.build());
        Ok(Self { client, name: environment::required("EVENT_BUS")? })
    }

    /// Puts up to ten entries on the bus. Returns for each, in order, whether the bus accepted it. If the bus refuses the whole call
    /// because of what is in it, each entry is tried alone.
    pub async fn put(&self, entries: &[Entry]) -> Vec<Result<(), Refusal>> {
        let error = match self.call(entries).await {
            Ok(results) => return results,
            Err(error) => error,
        };
        if !matches!(error.code(), Some(INVALID | DENIED)) {
            return vec![Err(Refusal::Retryable(chain(&error))); entries.len()];
        }
        let mut calls = Vec::with_capacity(entries.len());
        for entry in entries {
            let call = self.call(slice::from_ref(entry)).await;
            calls.push(call.map_err(|error| (error.code().map(str::to_owned), chain(&error))));
        }
        let accepted = calls.iter().flatten().flatten().any(Result::is_ok);
        let judge =
            |(code, reason): (Option<String>, String)| Refusal::of_call(code.as_deref(), reason, accepted);
        calls.into_iter().flat_map(|call| call.unwrap_or_else(|failed| vec![Err(judge(failed))])).collect()
    }

    async fn call(&self, entries: &[Entry]) -> Result<Vec<Result<(), Refusal>>, SdkError<PutEventsError>> {
        let request = entries.iter().map(|entry| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source(&entry.source)
                .detail_type(&entry.detail_type)
                .detail(&entry.detail)
                .set_trace_header(entry.trace_header.clone())
                .build()
        });
        let answer = self.client.put_events().set_entries(Some(request.collect())).send().await?;
        let mut taken = answer.entries.unwrap_or_default().into_iter();
        // An entry without an answer counts as not accepted.
        let of_one = |_| match taken.next() {
            Some(entry) if entry.event_id.is_some() => Ok(()),
            Some(entry) => Err(Refusal::of_entry(entry.error_code(), entry.error_message())),
            None => Err(Refusal::Retryable("no answer for this entry".to_owned())),
        };
        Ok(entries.iter().map(of_one).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_that_a_retry_cannot_help_is_permanent() {
        for code in PERMANENT {
            let refusal = Refusal::of_entry(Some(code), Some("no"));
            assert_eq!(refusal, Refusal::Permanent(format!("{code}: no")));
        }
        for code in ["ThrottlingException", "InternalFailure", "InternalException", "something new"] {
            assert_eq!(Refusal::of_entry(Some(code), None), Refusal::Retryable(code.to_owned()));
        }
        assert_eq!(Refusal::of_entry(None, None), Refusal::Retryable("no event id".to_owned()));
    }

    #[test]
    fn a_denied_call_is_permanent_only_if_others_are_accepted() {
        let refusal = |code, accepted| Refusal::of_call(Some(code), "no".to_owned(), accepted);
        assert_eq!(refusal(DENIED, true), Refusal::Permanent("no".to_owned()));
        assert_eq!(refusal(DENIED, false), Refusal::Retryable("no".to_owned()));
        assert_eq!(refusal(INVALID, false), Refusal::Permanent("no".to_owned()));
        assert_eq!(refusal("ThrottlingException", true), Refusal::Retryable("no".to_owned()));
    }
}
