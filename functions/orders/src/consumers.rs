//! The consumers of events.

use events::UserEvent;
use runtime::{
    copies::Standing,
    queue::{Delivery, Failure, Outcome},
    user_copies,
};

use crate::store::Orders;

/// Keeps a copy of who has a profile. A deleted user's orders are kept, because they are business records.
pub async fn on_user(orders: &Orders, delivery: &Delivery<UserEvent>) -> Result<Outcome, Failure> {
    Ok(match user_copies::apply(orders.table(), &delivery.event).await? {
        Standing::Latest => Outcome::Applied,
        Standing::Overtaken => Outcome::AlreadyApplied,
    })
}
