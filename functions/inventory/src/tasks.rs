//! The steps of the order saga: reserve an order's items, release them, take them out of the stock.
//!
//! Each reads, decides, and writes on the condition that nothing has changed since the read. If something has, it reads and
//! decides again.

use std::time::Duration;

use kernel::clock::Timestamp;
use runtime::{
    retry::Retries,
    serve::task::{Done, StepError, Task},
    table,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    reservation::{Promise, Reservation, ReserveInput, Transition},
    store::{Inventory, TransitionResult},
};

/// Maximum retries within a step. After them the state machine retries it, with a longer pause.
const RETRIES: usize = 4;
/// Maximum pause before the first of them; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The time that another attempt needs. If less is left, the step fails with the table's error.
const ATTEMPT_TIME: Duration = Duration::from_secs(5);

/// The order that a step handles.
#[derive(Debug, Deserialize)]
pub struct OrderId {
    /// Its id.
    pub order_id: Uuid,
}

/// `ReserveInventory`: reserves an order's items, all of them or none, and returns their price.
pub async fn reserve(inventory: &Inventory, task: &Task<ReserveInput>) -> Result<Promise, StepError> {
    let order = &task.input;
    let decide = async || {
        let (existing, stock) = inventory.reservation_and_stock(order.order_id, order.items.items()).await?;
        match Reservation::reserve(existing.as_ref(), &stock, order) {
            // A batch read is not a snapshot: an item that seems to be gone can have been reserved for this same order by an
            // earlier invocation, which timed out.
            Err(refusal) if existing.is_none() => match inventory.reservation(order.order_id).await? {
                None => Err(refusal.into()),
                existing => Ok(Reservation::reserve(existing.as_ref(), &stock, order)?),
            },
            decided => Ok(decided?),
        }
    };
    decide_and_write(inventory, task, decide).await
}

/// `ReleaseInventory`: releases the reservation, and prevents a late one.
pub async fn release(inventory: &Inventory, task: &Task<OrderId>) -> Result<Done, StepError> {
    let order = task.input.order_id;
    let decide = async || {
        let existing = inventory.reservation(order).await?;
        Ok((Done {}, Reservation::release(existing.as_ref(), order, Timestamp::now())))
    };
    decide_and_write(inventory, task, decide).await
}

/// `CommitInventory`: takes the reserved items out of the stock.
pub async fn commit(inventory: &Inventory, task: &Task<OrderId>) -> Result<Done, StepError> {
    let order = task.input.order_id;
    let decide = async || {
        let existing = inventory.reservation(order).await?;
        Ok((Done {}, Reservation::commit(existing.as_ref()).map_err(StepError::retryable)?))
    };
    decide_and_write(inventory, task, decide).await
}

/// Decides and writes the decision, and repeats both if something has changed in between.
async fn decide_and_write<I, T>(
    inventory: &Inventory,
    task: &Task<I>,
    decide: impl AsyncFn() -> Result<(T, Option<Transition>), StepError>,
) -> Result<T, StepError> {
    let mut retries = Retries::new(FIRST_PAUSE, RETRIES);
    loop {
        let (answer, transition) = decide().await?;
        let Some(transition) = transition else { return Ok(answer) };
        let error = match inventory.write(&transition, Timestamp::now()).await {
            Ok(TransitionResult::Done) => return Ok(answer),
            Ok(TransitionResult::Conflict(conflict)) => StepError::retryable(conflict),
            // Such as a conflict with another transaction (TransactionConflict), which takes milliseconds.
            Err(error @ table::Error::Unavailable(_)) if task.deadline.time_left() > ATTEMPT_TIME => {
                error.into()
            }
            Err(error) => return Err(error.into()),
        };
        if !retries.wait().await {
            return Err(error);
        }
    }
}
