//! Reads a secret from Secrets Manager.

use serde::de::DeserializeOwned;

use crate::{Error, aws, error::read_json};

/// The secret with this name or ARN, whose text is the JSON of a `T`.
///
/// Read once, when a function starts: instances that run already keep the old value.
pub async fn read<T: DeserializeOwned>(name: &str) -> Result<T, Error> {
    let client = aws::client!(aws_sdk_secretsmanager);
    let answer = client.get_secret_value().secret_id(name).send().await?;
    let text = answer.secret_string.ok_or_else(|| format!("the secret {name} has no text"))?;
    read_json(text.as_bytes()).map_err(|error| format!("the secret {name} cannot be read: {error}").into())
}
