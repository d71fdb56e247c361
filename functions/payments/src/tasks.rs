//! The steps of the order saga.

use runtime::serve::task::{Done, StepError, Task};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    cashier::Cashier,
    payment::{Command, Purchase},
};

/// The order whose payment a step handles.
#[derive(Debug, Deserialize)]
pub struct PaymentInput {
    order_id: Uuid,
}

/// `AuthorizePayment`: holds the money. [`cancel`] compensates it.
pub async fn authorize(cashier: &Cashier, task: &Task<Purchase>) -> Result<Done, StepError> {
    let command = Command::Authorize(task.input.clone());
    carry_out(cashier, task.input.order_id, &command).await
}

/// `CapturePayment`: captures what is held.
pub async fn capture(cashier: &Cashier, task: &Task<PaymentInput>) -> Result<Done, StepError> {
    carry_out(cashier, task.input.order_id, &Command::Capture).await
}

/// `CancelPayment`: releases what is held, refunds what was captured, and prevents a late payment from beginning.
pub async fn cancel(cashier: &Cashier, task: &Task<PaymentInput>) -> Result<Done, StepError> {
    carry_out(cashier, task.input.order_id, &Command::Cancel).await
}

async fn carry_out(cashier: &Cashier, order_id: Uuid, command: &Command) -> Result<Done, StepError> {
    cashier.carry_out(order_id, command).await.map(|_| Done {})
}
