//! The HTTP endpoints.

use std::time::Duration;

use events::{Quantity, Sku};
use kernel::{
    clock::Timestamp,
    idempotency,
    money::Money,
    page::{self, Cursor, Page},
    problem::{Kind, Problem},
};
use runtime::{
    http::{Reply, Request},
    table::Written,
    user_copies,
    users::UsersClient,
    workflow::Workflow,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    draft::Draft,
    order::{Order, Reason, Status, TooLate},
    store::{Orders, Record},
    tasks,
};

/// Maximum wait for the start of an order's execution.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// The part of the function's time that is kept for the answer.
const KEPT: Duration = Duration::from_millis(500);

/// An order as its buyer sees it. Prices are null until the inventory has said them.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "Order"))]
pub(crate) struct View<'a> {
    /// The order.
    id: Uuid,
    /// What has been decided about it.
    status: Status,
    /// What is ordered.
    items: Vec<LineView<'a>>,
    /// What it costs.
    total: Option<Money>,
    /// Why it will not be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// When it was placed.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
    /// 1 when it is placed, one more with each change.
    version: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "OrderLine"))]
pub(crate) struct LineView<'a> {
    /// The stock keeping unit.
    sku: &'a Sku,
    /// How many.
    quantity: Quantity,
    /// What one of them costs.
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
            status: order.shown(),
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
    (orders, users, workflow): &(Orders, UsersClient, Workflow),
    request: &Request,
) -> Result<Reply, Problem> {
    let caller = request.caller()?;
    let id = idempotency::creation_id(caller.id, "POST /orders", request.idempotency_key()?.as_ref());
    let draft = Draft::read(request.json()?)?;
    let digest = idempotency::digest(&draft);

    user_copies::author(orders.user(caller.id).await?, caller, users, request).await?;
    let (order, event) = Order::place(id, caller.id, draft, Timestamp::now());
    let record = Record::new(order, digest);
    let order = match orders.create(&record, event).await? {
        Written::Done => {
            start(workflow, &record.order, request).await;
            record.order
        }
        // A repeat gets the answer of the first request, even if the order has changed since.
        Written::Refused(Some(standing)) => {
            let first = standing.first_made(Record::origin, &record.request)?;
            Order { created_at: first, updated_at: first, ..record.order }
        }
        Written::Refused(None) => return Err(Problem::concurrent_change()),
    };
    let location = format!("/orders/{id}");
    Ok(Reply::accepted_at(&View::of(&order), &location)?.etag(order.version))
}

/// Starts the saga. The order is accepted even if that fails, because the reconciler starts it later.
async fn start(workflow: &Workflow, order: &Order, request: &Request) {
    let (name, input) = (order.execution(), tasks::SagaInput::of(order));
    let wait = LONGEST_WAIT.min(request.time_left().saturating_sub(KEPT));
    let cause = match tokio::time::timeout(wait, workflow.start(&name, &input)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => Problem::unavailable(error).to_string(),
        Err(elapsed) => elapsed.to_string(),
    };
    tracing::warn!(order_id = %order.id, cause, "the reconciler will start it");
}

/// `GET /orders`, the caller's own, newest first.
pub async fn list(orders: &Orders, request: &Request) -> Result<Reply, Problem> {
    let caller = request.caller()?;
    let list = format!("orders of {}", caller.id);
    let limit = page::limit(request.query("limit"))?;
    let after = Cursor::decode(&list, request.query("cursor"))?;

    let (found, last) = orders.list(caller.id, after, limit).await?;
    let next_cursor = last.map(|last| Cursor::encode(&list, &last));
    Reply::ok(&Page { items: found.iter().map(View::of).collect(), next_cursor })
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
    Ok(Reply::accepted_at(&View::of(&order), &format!("/orders/{id}"))?.etag(order.version))
}

fn too_late(status: Status) -> Problem {
    let why = match status {
        Status::Confirmed => "it is confirmed",
        Status::NeedsAttention => "an operator has to look at it first",
        Status::Pending => "it is about to be rejected",
        Status::Rejected | Status::Cancelled => "it is rejected",
    };
    Problem::new(Kind::Conflict, format!("the order cannot be cancelled: {why}"))
}
