//! The settings that a template gives a function, as environment variables.

use std::{env, error, fmt};

/// A setting that is missing in the template.
#[derive(Debug)]
pub struct Missing(&'static str);

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the environment variable {} is missing or empty: see the function's template",
            self.0
        )
    }
}

impl error::Error for Missing {}

/// The value of a variable that must be set.
pub fn required(name: &'static str) -> Result<String, Missing> {
    env::var(name).ok().filter(|value| !value.is_empty()).ok_or(Missing(name))
}
