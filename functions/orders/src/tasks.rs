//! The saga's steps that the orders service runs.

use events::{Item, PricedItem};
use kernel::{clock::Timestamp, money::Money, saga::Refusal};
use runtime::{
    serve::task::{Done, StepError, Task},
    telemetry::traceparent,
    users::UsersClient,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    draft::PaymentMethod,
    metrics::ORDERS_PARKED,
    order::{Order, ParkOutcome, Quote, Reason, Status, Visit},
    store::Orders,
};

/// The input of an execution of the state machine.
#[derive(Debug, Serialize)]
pub struct SagaInput<'a> {
    order_id: Uuid,
    buyer_id: Uuid,
    items: &'a [Item],
    payment_method: &'a PaymentMethod,
    expected_total: Option<Money>,
    traceparent: Option<String>,
}

impl<'a> SagaInput<'a> {
    /// The input of an order's execution, in the current trace.
    pub fn of(order: &'a Order) -> Self {
        Self {
            order_id: order.id,
            buyer_id: order.buyer_id,
            items: order.draft.items.as_slice(),
            payment_method: &order.draft.payment_method,
            expected_total: order.draft.expected_total,
            traceparent: traceparent(),
        }
    }
}

/// The input of `orders-validate-user`.
#[derive(Debug, Deserialize)]
pub struct ValidateUser {
    order_id: Uuid,
    buyer_id: Uuid,
}

/// The input of `orders-confirm`.
#[derive(Debug, Deserialize)]
pub struct Confirm {
    order_id: Uuid,
    #[serde(flatten)]
    prices: Quote,
}

/// The input of `orders-abort`.
#[derive(Debug, Deserialize)]
pub struct Abort {
    order_id: Uuid,
    error: Option<String>,
    lines: Option<Vec<PricedItem>>,
    total: Option<Money>,
}

/// The input of `orders-reject`.
#[derive(Debug, Deserialize)]
pub struct Reject {
    order_id: Uuid,
}

/// The input of `orders-park`.
#[derive(Debug, Deserialize)]
pub struct Park {
    order_id: Uuid,
    error: String,
    #[serde(flatten)]
    visit: Visit,
}

/// The output of `orders-abort`.
#[derive(Debug, Serialize)]
pub struct Aborted {
    reason: Option<Reason>,
}

/// The output of `orders-reject`: how the order ended.
#[derive(Debug, Serialize)]
pub struct Settled {
    status: Status,
    reason: Option<Reason>,
}

/// Checks that the buyer exists and that the saga may still go forward.
pub async fn validate_user(
    (orders, users): &(Orders, UsersClient),
    task: &Task<ValidateUser>,
) -> Result<Done, StepError> {
    orders.get(task.input.order_id).await?.may_proceed()?;
    let user = users.get(task.input.buyer_id, task.deadline).await.map_err(StepError::unavailable)?;
    user.map(|_| Done {}).ok_or_else(|| Refusal::UserNotFound.into())
}

/// Confirms the order: the pivot.
pub async fn confirm(orders: &Orders, task: &Task<Confirm>) -> Result<Done, StepError> {
    let Confirm { order_id, prices } = &task.input;
    let now = Timestamp::now();
    let decide = |order: &Order| Ok(((), order.confirm(prices.clone(), now)?));
    orders.decide::<_, StepError>(*order_id, decide).await?;
    Ok(Done {})
}

/// Decides that the order will not be confirmed.
pub async fn abort(orders: &Orders, task: &Task<Abort>) -> Result<Aborted, StepError> {
    let Abort { order_id, error, lines, total } = &task.input;
    let prices = lines.clone().zip(*total).map(|(lines, total)| Quote { lines, total });
    let (reason, now) = (Reason::of_error(error.as_deref()), Timestamp::now());
    let decide = |order: &Order| Ok(((), order.abort(reason, prices.clone(), now)?));
    let ((), order) = orders.decide::<_, StepError>(*order_id, decide).await?;
    Ok(Aborted { reason: order.reason })
}

/// Settles an order after its compensations.
pub async fn reject(orders: &Orders, task: &Task<Reject>) -> Result<Settled, StepError> {
    let now = Timestamp::now();
    let decide = |order: &Order| Ok(((), order.reject(now)?));
    let ((), order) = orders.decide::<_, StepError>(task.input.order_id, decide).await?;
    Ok(Settled { status: order.status, reason: order.reason })
}

/// Parks the order for an operator, or resumes it after a redrive.
pub async fn park(orders: &Orders, task: &Task<Park>) -> Result<Done, StepError> {
    let Park { order_id, error, visit } = &task.input;
    let now = Timestamp::now();
    let decide = |order: &Order| {
        Ok(match order.park(visit, now) {
            ParkOutcome::Waits(decision) => (true, decision),
            ParkOutcome::Resumes(decision) => (false, decision),
        })
    };
    let (waits, _) = orders.decide::<_, StepError>(*order_id, decide).await?;
    if waits {
        // Counted for every visit, retries included, because an alarm too many is better than one too few.
        ORDERS_PARKED.increment();
        tracing::error!(%order_id, cause = error, "parked");
        return Err(Refusal::NeedsAttention.into());
    }
    Ok(Done {})
}
