//! The steps of the order saga: promise an order its items, take the promise back, take them out of the
//! stock.
//!
//! Each reads, decides, and writes under the condition that what it read still stands; where that is no
//! longer so, it reads and decides again.

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

/// How often a step decides anew before it leaves that to the state machine, which waits longer.
const ATTEMPTS: u32 = 5;
/// The time that another attempt needs: without it, what the table's error says goes to the state machine.
const ATTEMPT_TIME: Duration = Duration::from_secs(5);

/// The order that a step is about.
#[derive(Debug, Deserialize)]
pub struct OrderId {
    /// Its id.
    pub order_id: Uuid,
}

/// `ReserveInventory`: promises an order its items, all of them or none, and answers what they cost.
pub async fn reserve(inventory: &Inventory, task: &Task<Order>) -> Result<Promise, Failure> {
    let order = &task.input;
    let decide = async || {
        let (present, stock) = inventory.reservation_and_stock(order.order_id, order.items.items()).await?;
        match Reservation::reserve(present.as_ref(), &stock, order) {
            // A batch of reads is not one moment: what seems to be gone may have been promised to this very
            // order in between, by an invocation that was given up for late.
            Err(refusal) if present.is_none() => match inventory.reservation(order.order_id).await? {
                None => Err(refusal.into()),
                present => Ok(Reservation::reserve(present.as_ref(), &stock, order)?),
            },
            decided => Ok(decided?),
        }
    };
    settle(inventory, task, decide).await
}

/// `ReleaseInventory`: takes the promise back, and refuses one that comes later.
pub async fn release(inventory: &Inventory, task: &Task<OrderId>) -> Result<Done, Failure> {
    let order = task.input.order_id;
    let decide = async || {
        let present = inventory.reservation(order).await?;
        Ok((Done {}, Reservation::release(present.as_ref(), order, Timestamp::now())))
    };
    settle(inventory, task, decide).await
}

/// `CommitInventory`: takes what was promised out of the stock.
pub async fn commit(inventory: &Inventory, task: &Task<OrderId>) -> Result<Done, Failure> {
    let order = task.input.order_id;
    let decide = async || {
        let present = inventory.reservation(order).await?;
        Ok((Done {}, Reservation::commit(present.as_ref()).map_err(Failure::transient)?))
    };
    settle(inventory, task, decide).await
}

/// Decides, and writes what was decided, until nothing has changed between the two.
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
            // Such as another transaction at work on one of the items (TransactionConflict): it takes
            // milliseconds.
            Err(table::Error::Unavailable(_)) if attempt < ATTEMPTS && task.time_left() > ATTEMPT_TIME => {}
            Err(error) => return Err(error.into()),
        }
        pause(attempt).await;
        attempt += 1;
    }
}
