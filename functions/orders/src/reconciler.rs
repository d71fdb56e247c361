//! Starts what was accepted and never started, and anew what ended without settling its order.
//!
//! An execution can end without a word to anybody: stopped, timed out, lost. Every step is idempotent by
//! order id, so the next execution finishes what the last one began. What is alive is not touched.

use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use kernel::clock::Timestamp;
use runtime::{
    Error,
    metrics::ORDERS_PARKED,
    schedule::Run,
    telemetry::{self, annotate},
    workflow::{Standing, Workflow},
};

use crate::{
    order::{Decision, Execution, Order, Reconciliation},
    store::{Due, Orders},
    tasks::SagaInput,
};

/// How many orders are read at once.
const PAGE: u32 = 100;
/// How many orders are looked after at once: Step Functions answers some tens of questions a second.
const WIDTH: usize = 8;
/// The next run goes on when less time than this is left.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Looks after every order that is due. One that cannot be helped holds up no other.
pub async fn reconcile((orders, workflow): &(Orders, Workflow), run: &Run) -> Result<(), Error> {
    let now = Timestamp::now();
    let (mut after, mut failed) = (None, 0_u32);
    loop {
        let (due, more) = orders.due(now, after, PAGE).await?;
        after = due.last().map(|due| due.due.clone());
        failed += stream::iter(&due)
            .map(async |due| {
                let result = look_after(orders, workflow, due, now).await;
                if let Err(cause) = &result {
                    tracing::error!(order_id = due.order_id(), %cause, "could not be looked after");
                }
                u32::from(result.is_err())
            })
            .buffer_unordered(WIDTH)
            .map(Ok::<_, Error>)
            .try_fold(0, async |sum, failed| Ok(sum + failed))
            .await?;
        if !more || run.time_left() < HAND_OVER {
            break;
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} orders could not be looked after").into()) }
}

async fn look_after(orders: &Orders, workflow: &Workflow, due: &Due, now: Timestamp) -> Result<(), Error> {
    let Some((order, traceparent)) = orders.get_due(due).await? else { return Ok(()) };
    if order.settled {
        return Ok(());
    }
    let work = async {
        annotate("order_id", order.id);
        // Boxed: it would be part of two more futures.
        help(orders, workflow, &order, now).boxed_local().await
    };
    telemetry::continuing("reconcile", traceparent.as_deref(), work).await
}

/// Does what the order needs, in its own trace.
async fn help(orders: &Orders, workflow: &Workflow, order: &Order, now: Timestamp) -> Result<(), Error> {
    let execution = match workflow.standing(&order.execution()).await? {
        Standing::Unknown => Execution::Unknown,
        Standing::Alive => Execution::Alive,
        Standing::Succeeded => Execution::Succeeded,
        Standing::Ended => Execution::Ended,
    };
    match order.reconcile(execution, now) {
        Reconciliation::Leave => Ok(()),
        Reconciliation::Start => start(workflow, order).await,
        Reconciliation::StartNext(decision) => match write(orders, order, decision).await? {
            Some(next) => start(workflow, &next).await,
            None => Ok(()),
        },
        Reconciliation::Settle(decision) => write(orders, order, decision).await.map(drop),
        Reconciliation::Park(decision) => {
            // Before the order is written: an alarm too many is better than one too few.
            ORDERS_PARKED.one();
            tracing::error!(order_id = %order.id, cause = "every attempt ended", "parked");
            write(orders, order, decision).await.map(drop)
        }
    }
}

/// Stores what was decided about the order as it was read; none where it has changed since, which means
/// that somebody is at work on it.
async fn write(orders: &Orders, read: &Order, decision: Decision) -> Result<Option<Order>, Error> {
    let unchanged = |order: &Order| order.version == read.version;
    let decide = |order: &Order| {
        let decision = if unchanged(order) { decision.clone() } else { Decision::Already };
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
