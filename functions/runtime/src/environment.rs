//! The settings that a template gives a function, as environment variables.

use std::env;

use thiserror::Error;

/// A required environment variable that is not set.
#[derive(Debug, Error)]
#[error("the environment variable {0} is missing or empty: see the function's template")]
pub struct Missing(&'static str);

/// The value of a variable that must be set.
pub fn required(name: &'static str) -> Result<String, Missing> {
    env::var(name).ok().filter(|value| !value.is_empty()).ok_or(Missing(name))
}
