//! The steps of the order saga: reserve an order's items, release them, take them out of the stock.
//!
//! Each reads, decides, and writes on the condition that nothing has changed since the read. If something has, it reads and
//! decides again.

use std::time::Duration;

use kernel::clock::Timestamp;
use runtime::{
    table::{self, pause},
    task::{Done, Failure, Task},
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    reservation::{Order, Promise, Reservation, Transition},
    store::{Inventory, Outcome},
};

/// Maximum attempts of a step, before the state machine retries it after a longer pause.
const ATTEMPTS: u32 = 5;
/// The time that another attempt needs. With less left, the state machine gets the table's error.
const ATTEMPT_TIME: Duration = Duration::from_secs(5);

/// The order that a step handles.
#[derive(Debug, Deserialize)]
pub struct OrderId {
    /// Its id.
    pub order_id: Uuid,
}

/// `ReserveInventory`: reserves an order's items, all of them or none, and returns their price.
pub async fn reserve(inventory: &Inventory, task: &Task<Order>) -> Result<Promise, Failure> {
    let order = &task.input;
    let decide = async || {
        let (present, stock) = inventory.reservation_and_stock(order.order_id, order.items.items()).await?;
        match Reservation::reserve(present.as_ref(), &stock, order) {
            // A batch read is not a snapshot: an item that seems to be gone can have been reserved for this same order by an
            // earlier invocation, which timed out.
            Err(refusal) if present.is_none() => match inventory.reservation(order.order_id).await? {
                None => Err(refusal.into()),
                present => Ok(Reservation::reserve(present.as_ref(), &stock, order)?),
            },
            decided => Ok(decided?),
        }
    };
    settle(inventory, task, decide).await
}

/// `ReleaseInventory`: releases the reservation, and prevents a late one.
pub async fn release(inventory: &Inventory, task: &Task<OrderId>) -> Result<Done, Failure> {
    let order = task.input.order_id;
    let decide = async || {
        let present = inventory.reservation(order).await?;
        Ok((Done {}, Reservation::release(present.as_ref(), order, Timestamp::now())))
    };
    settle(inventory, task, decide).await
}

/// `CommitInventory`: takes the reserved items out of the stock.
pub async fn commit(inventory: &Inventory, task: &Task<OrderId>) -> Result<Done, Failure> {
    let order = task.input.order_id;
    let decide = async || {
        let present = inventory.reservation(order).await?;
        Ok((Done {}, Reservation::commit(present.as_ref()).map_err(Failure::transient)?))
    };
    settle(inventory, task, decide).await
}

/// Decides and writes, until nothing has changed between the two.
async fn settle<I, T>(
    inventory: &Inventory,
    task: &Task<I>,
    decide: impl AsyncFn() -> Result<(T, Option<Transition>), Failure>,
) -> Result<T, Failure> {
    let mut attempt = 1;
    loop {
        let (answer, transition) = decide().await?;
        let Some(transition) = transition else { return Ok(answer) };
        match inventory.write(&transition, Timestamp::now()).await {
            Ok(Outcome::Done) => return Ok(answer),
            Ok(Outcome::Lost(_)) if attempt < ATTEMPTS => {}
            Ok(Outcome::Lost(lost)) => return Err(Failure::transient(lost.to_string())),
            // Such as a conflict with another transaction (TransactionConflict), which takes milliseconds.
            Err(table::Error::Unavailable(_)) if attempt < ATTEMPTS && task.time_left() > ATTEMPT_TIME => {}
            Err(error) => return Err(error.into()),
        }
        pause(attempt).await;
        attempt += 1;
    }
}
