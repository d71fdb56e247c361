//! The consumers of events.

use events::UserEvent;
use runtime::{
    aws::identity_provider::UserPool,
    serve::queue::{ConsumerError, Delivery, Outcome},
};

/// Removes the login of a deleted user, so that no new token is issued. Because an event causes this, the deletion is completed
/// even if the function that deleted the profile died right after.
pub async fn on_user(user_pool: &UserPool, delivery: &Delivery<UserEvent>) -> Result<Outcome, ConsumerError> {
    let UserEvent::Deleted(user) = &delivery.event.payload else { return Ok(Outcome::AlreadyApplied) };
    // If people sign in with their e-mail address, Cognito uses the `sub` as the username.
    user_pool.delete(&user.id.to_string()).await.map_err(ConsumerError::Retryable)?;
    Ok(Outcome::Applied)
}
