//! Starts executions of accepted orders that were not started, and new ones if an execution ended without settling its order.
//!
//! An execution can end unnoticed: stopped, timed out, lost. Every step is idempotent by order id, so the next execution
//! finishes what the last one began. Running executions are left alone.

use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use kernel::clock::Timestamp;
use runtime::{
    Error,
    aws::workflow::Workflow,
    deadline::Deadline,
    telemetry::{self, annotate},
};

use crate::{
    metrics::ORDERS_PARKED,
    order::{Decision, Order, Reconciliation},
    store::{Due, Orders},
    tasks::SagaInput,
};

/// Orders that are read at once.
const PAGE: u32 = 100;
/// Maximum number of orders that are handled concurrently: Step Functions accepts some tens of requests a second.
const WIDTH: usize = 8;
/// If less time than this is left, the remaining orders wait for the next run.
const RESERVED_TIME: Duration = Duration::from_secs(10);

/// Handles every order that is due. The failure of one does not stop the others.
pub async fn reconcile((orders, workflow): &(Orders, Workflow), deadline: Deadline) -> Result<(), Error> {
    let now = Timestamp::now();
    let (mut after, mut failed) = (None, 0_u32);
    loop {
        let due = orders.due(now, after.as_deref(), PAGE).await?;
        after = due.end().map(str::to_owned);
        failed += stream::iter(due.items())
            .map(async |due| {
                let result = reconcile_due(orders, workflow, due, now).await;
                if let Err(cause) = &result {
                    tracing::error!(order_id = due.order_id(), %cause, "could not be reconciled");
                }
                u32::from(result.is_err())
            })
            .buffer_unordered(WIDTH)
            .map(Ok::<_, Error>)
            .try_fold(0, async |sum, failed| Ok(sum + failed))
            .await?;
        if after.is_none() || deadline.time_left() < RESERVED_TIME {
            break;
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} orders could not be reconciled").into()) }
}

async fn reconcile_due(orders: &Orders, workflow: &Workflow, due: &Due, now: Timestamp) -> Result<(), Error> {
    let Some((order, traceparent)) = orders.get_due(due).await? else { return Ok(()) };
    if order.settled {
        return Ok(());
    }
    let work = async {
        annotate("order_id", order.id);
        // Boxed to keep the enclosing futures small.
        reconcile_one(orders, workflow, &order, now).boxed_local().await
    };
    telemetry::continuing("reconcile", traceparent.as_deref(), work).await
}

/// Handles one order, in its own trace.
async fn reconcile_one(
    orders: &Orders,
    workflow: &Workflow,
    order: &Order,
    now: Timestamp,
) -> Result<(), Error> {
    let execution = workflow.status(&order.execution()).await?;
    match order.reconcile(execution, now) {
        Reconciliation::Leave => Ok(()),
        Reconciliation::Start => start(workflow, order).await,
        Reconciliation::StartNext(decision) => match write(orders, order, decision).await? {
            Some(next) => start(workflow, &next).await,
            None => Ok(()),
        },
        Reconciliation::Settle(decision) => write(orders, order, decision).await.map(drop),
        Reconciliation::Park(decision) => {
            // Counted before the write, because an alarm too many is better than one too few.
            ORDERS_PARKED.increment();
            tracing::error!(order_id = %order.id, cause = "no execution settled the order", "parked");
            write(orders, order, decision).await.map(drop)
        }
    }
}

/// Stores a decision about the order that was read; `None` if it has changed since, because then something else handles it.
async fn write(orders: &Orders, read: &Order, decision: Decision) -> Result<Option<Order>, Error> {
    let unchanged = |order: &Order| order.version == read.version;
    let decide = |order: &Order| {
        let decision = if unchanged(order) { decision.clone() } else { Decision::AlreadyMade };
        Ok::<_, runtime::table::Error>((unchanged(order), decision))
    };
    let (written, order) = orders.decide(read.id, decide).await?;
    Ok(written.then_some(order))
}

async fn start(workflow: &Workflow, order: &Order) -> Result<(), Error> {
    workflow.start(&order.execution(), &SagaInput::of(order)).await?;
    tracing::warn!(order_id = %order.id, attempt = order.attempt, "started by the reconciler");
    Ok(())
}
