//! What follows from events.

use events::UserEvent;
use runtime::{
    identity_provider::UserPool,
    queue::{Delivery, Failure, Outcome},
};

/// Removes the login of a deleted user, so that no new token is issued. A profile's deletion is thereby
/// complete even where the function that deleted it died right after.
pub async fn on_user(user_pool: &UserPool, delivery: &Delivery<UserEvent>) -> Result<Outcome, Failure> {
    let UserEvent::Deleted(user) = &delivery.event.payload else { return Ok(Outcome::AlreadyApplied) };
    // Where people sign in with their e-mail address, Cognito makes the username the `sub`.
    user_pool.delete(&user.id.to_string()).await?;
    Ok(Outcome::Applied)
}
