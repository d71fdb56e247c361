//! Why a payment provider could not do what it was asked.

use std::error;

use runtime::{serve::task::StepError, table};
use thiserror::Error;

/// Why a request to a provider failed.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// It did not answer, so that it is not known whether the call took effect.
    #[error("the payment provider is not available")]
    Unavailable(#[source] Box<dyn error::Error + Send + Sync>),
    /// It refused the call: a wrong key, or a payment that it does not know.
    #[error("the payment provider refuses")]
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
        Self::retryable(error)
    }
}
