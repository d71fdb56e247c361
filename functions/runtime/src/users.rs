//! Asks the users service about a user.
//!
//! A remote procedure call: the function `users-lookup` is invoked directly, with `{"id": …}`, and answers
//! `{"user": …}` or `{"user": null}`. Who may do so is said by the callers' roles.

use std::{error, fmt, time::Duration};

use aws_sdk_lambda::{Client, primitives::Blob};
use kernel::{clock::Timestamp, problem::Problem};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{aws, environment};

/// The longest that a caller waits for an answer, retries included.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// What a caller keeps for itself of the time it has left.
const KEPT: Duration = Duration::from_millis(500);

/// A user, as the users service tells other services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's id.
    pub id: Uuid,
    /// The display name.
    pub name: String,
    /// The verified e-mail address.
    pub email: String,
    /// When the profile was made.
    pub created_at: Timestamp,
    /// The profile's version.
    pub version: u64,
}

/// The question.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lookup {
    /// Who is meant.
    pub id: Uuid,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    /// The user; none where there is no such user, or no longer.
    pub user: Option<User>,
}

/// The users service did not answer, or not in a way that makes sense.
#[derive(Debug)]
pub struct Unavailable(Box<dyn error::Error + Send + Sync>);

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the users service is not available")
    }
}

impl error::Error for Unavailable {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        Self::unavailable(error)
    }
}

/// The users service, seen from another.
#[derive(Clone, Debug)]
pub struct UsersClient {
    client: Client,
    function: String,
}

impl UsersClient {
    /// Connects to the function that the environment variable `USERS_LOOKUP` names.
    pub async fn connect() -> Result<Self, environment::Missing> {
        Ok(Self {
            client: Client::new(aws::config().await),
            function: environment::required("USERS_LOOKUP")?,
        })
    }

    /// The user, or none where there is no such user. `time_left` is what the caller's own time-out leaves.
    pub async fn get(&self, id: Uuid, time_left: Duration) -> Result<Option<User>, Unavailable> {
        let wait = LONGEST_WAIT.min(time_left.saturating_sub(KEPT));
        let answer = tokio::time::timeout(wait, self.call(id)).await;
        answer
            .unwrap_or_else(|_| Err(format!("no answer within {} ms", wait.as_millis()).into()))
            .map_err(Unavailable)
    }

    async fn call(&self, id: Uuid) -> Result<Option<User>, Box<dyn error::Error + Send + Sync>> {
        let question = Blob::new(serde_json::to_vec(&Lookup { id })?);
        let answer = self.client.invoke().function_name(&self.function).payload(question).send().await?;
        if let Some(error) = answer.function_error {
            return Err(format!("{} failed: {error}", self.function).into());
        }
        let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
        let found: Found = serde_json::from_slice(&payload)?;
        Ok(found.user)
    }
}
