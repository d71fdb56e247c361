//! The consumers of events.

use events::UserEvent;
use runtime::{
    serve::queue::{self, ConsumerError, Delivery, Outcome},
    users::user_copies,
};

use crate::store::Orders;

/// Updates the copy of the user. A deleted user's orders are kept, because they are business records.
pub async fn on_user(orders: &Orders, delivery: &Delivery<UserEvent>) -> Result<Outcome, ConsumerError> {
    let copied = user_copies::apply(orders.table(), &delivery.event).await?;
    queue::follow_up(copied, async { Ok(Outcome::Applied) }).await
}
