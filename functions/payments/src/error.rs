//! Why a request to a payment provider failed.

use std::error;

use runtime::{serve::task::StepError, table};
use thiserror::Error;

/// The failure of a request to a payment provider.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// It did not answer, so it is unknown whether the call took effect.
    #[error("the payment provider is not available")]
    Unavailable(#[source] Box<dyn error::Error + Send + Sync>),
    /// It refused the call: a wrong key, or a payment that it does not know.
    #[error("the payment provider refused the request")]
    Broken(#[source] Box<dyn error::Error + Send + Sync>),
}

impl From<table::Error> for ProviderError {
    fn from(error: table::Error) -> Self {
        match error {
            table::Error::Unavailable(_) => Self::Unavailable(error.into()),
            table::Error::Broken(_) => Self::Broken(error.into()),
        }
    }
}

impl From<ProviderError> for StepError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Unavailable(_) => Self::unavailable(error),
            ProviderError::Broken(_) => Self::retryable(error),
        }
    }
}
