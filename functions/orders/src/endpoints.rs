//! The HTTP endpoints.

use std::time::Duration;

use events::{Quantity, Sku};
use futures::try_join;
use kernel::{
    clock::Timestamp,
    idempotency::{self, CreationRequest},
    money::Money,
    page::Page,
    problem::{Kind, Problem},
};
use runtime::{
    aws::workflow::Workflow,
    deadline::Deadline,
    error::chain,
    serve::http::{Reply, Request},
    table::{creation::Creation, limits::HourlyLimit},
    users::{UsersClient, user_copies},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    draft::Draft,
    order::{Order, Reason, Status, TooLate},
    store::Orders,
    tasks,
};

/// Time-out of `StartExecution`.
const START_TIMEOUT: Duration = Duration::from_secs(3);
/// The part of the function's time that is kept for the response.
const RESERVED_TIME: Duration = Duration::from_millis(500);

/// An order as its buyer sees it. Prices are null until inventory has calculated them.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "Order"))]
pub(crate) struct View<'a> {
    /// The order.
    id: Uuid,
    /// Its status.
    status: Status,
    /// The ordered items.
    items: Vec<LineView<'a>>,
    /// The total price.
    total: Option<Money>,
    /// Why it is rejected or cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// When it was placed.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
    /// 1 at first, increased by each change.
    version: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "OrderLine"))]
pub(crate) struct LineView<'a> {
    /// The stock keeping unit.
    sku: &'a Sku,
    /// The quantity.
    quantity: Quantity,
    /// The unit price.
    unit_price: Option<Money>,
}

impl<'a> View<'a> {
    fn of(order: &'a Order) -> Self {
        let lines = order.prices.as_ref().map(|prices| &prices.lines);
        let price = |sku| lines?.iter().find(|line| &line.sku == sku).map(|line| line.unit_price);
        let items = order.draft.items.as_slice().iter();
        // While an order is being compensated, its reason is not shown yet.
        let decided = order.status != Status::Pending;
        Self {
            id: order.id,
            status: order.visible_status(),
            items: items
                .map(|item| LineView {
                    sku: &item.sku,
                    quantity: item.quantity,
                    unit_price: price(&item.sku),
                })
                .collect(),
            total: order.prices.as_ref().map(|prices| prices.total),
            reason: order.reason.filter(|_| decided),
            created_at: order.created_at,
            updated_at: order.updated_at,
            version: order.version,
        }
    }
}

/// `POST /orders`.
pub async fn place(
    (orders, users, workflow, limit): &(Orders, UsersClient, Workflow, HourlyLimit),
    request: &Request,
) -> Result<Reply, Problem> {
    let caller = request.caller()?;
    let key = request.idempotency_key()?;
    let draft = Draft::read(request.json()?)?;
    let creation = CreationRequest::new(caller.id, "POST /orders", key.as_ref(), &draft);

    let (copy, allowance) = try_join!(orders.user(caller.id), orders.allowance(caller.id, *limit))?;
    user_copies::resolve_author(copy, caller, users, request).await?;
    orders.require_allowance(allowance, &creation).await?;
    let place = |now| Order::place(creation.id(), caller.id, draft.clone(), now);
    let (order, event) = place(Timestamp::now());
    let order = match orders.create(&creation, order, event).await? {
        Creation::Done(order) => {
            start(workflow, &order, request.deadline()).await;
            order
        }
        Creation::Repeated(first) => place(first).0,
        Creation::KeyReused => return Err(idempotency::reused()),
    };
    let location = format!("orders/{}", order.id);
    Ok(Reply::accepted_at(&View::of(&order), &location)?.etag(order.version))
}

/// Starts the saga. The order is accepted even if that fails, because the reconciler starts it later.
async fn start(workflow: &Workflow, order: &Order, deadline: Deadline) {
    let (name, input) = (order.execution(), tasks::SagaInput::of(order));
    let deadline = Deadline::after(deadline.time_out(START_TIMEOUT, RESERVED_TIME));
    let cause = match deadline.bound(workflow.start(&name, &input)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => chain(&error),
        Err(elapsed) => elapsed.to_string(),
    };
    tracing::warn!(order_id = %order.id, cause, "the reconciler will start it");
}

/// `GET /orders`, the caller's own, newest first.
pub async fn list(orders: &Orders, request: &Request) -> Result<Reply, Problem> {
    let caller = request.caller()?;
    let page = request.page(format!("orders of {}", caller.id))?;

    let Page { items, next_cursor } = orders.list(caller.id, &page).await?.into_page(&page);
    Reply::ok(&Page { items: items.iter().map(View::of).collect(), next_cursor })
}

/// `GET /orders/{id}`, the caller's own.
pub async fn get(orders: &Orders, request: &Request) -> Result<Reply, Problem> {
    let order = orders.find(request.id("id")?, request.caller()?.id).await?;
    Ok(Reply::ok(&View::of(&order))?.etag(order.version))
}

/// `POST /orders/{id}/cancel`, the caller's own. The saga compensates what it has done so far.
pub async fn cancel(orders: &Orders, request: &Request) -> Result<Reply, Problem> {
    let (caller, id) = (request.caller()?, request.id("id")?);
    let read = orders.find_to_change(id, caller.id).await?;
    let now = Timestamp::now();
    let cancelled = orders
        .decide_from(read, |order| match order.cancel(now) {
            Ok(decision) => Ok(((), decision)),
            Err(TooLate(status)) => Err(too_late(status)),
        })
        .await;
    let ((), order) = cancelled?;
    Ok(Reply::accepted_at(&View::of(&order), &format!("../{id}"))?.etag(order.version))
}

fn too_late(status: Status) -> Problem {
    let reason = match status {
        Status::Confirmed => "it is confirmed",
        Status::NeedsAttention => "an operator has to look at it first",
        Status::Pending => "it is about to be rejected",
        // A cancelled order is never too late: cancelling it again succeeds.
        Status::Rejected | Status::Cancelled => "it is rejected",
    };
    Problem::new(Kind::Conflict, format!("the order cannot be cancelled: {reason}"))
}
