//! Orders in the table, one item each, beside copies of users.

use std::time::Duration;

use events::OrderEvent;
use kernel::{
    clock::Timestamp, event::CloudEvent, idempotency::CreationRequest, page::PageRequest, problem::Problem,
};
use runtime::{
    Error,
    retry::Retries,
    table::{
        self, Found, Key, List, Table, Written,
        aggregate::Stored,
        creation::{Creatable, Creation, WithRequest},
        limits::{Allowance, HourlyLimit},
    },
    telemetry::traceparent,
    users::user_copies::{self, UserCopy},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    metrics::{DECISION_TIME, ORDERS_CANCELLED, ORDERS_CONFIRMED, ORDERS_PLACED, ORDERS_REJECTED},
    order::{Decision, Order, OrderChange},
};

/// Maximum retries when the order changes concurrently.
const RETRIES: usize = 4;
/// Maximum pause before the first of them; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The one partition of the index `open`.
const OPEN: &str = "open";

/// An order as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The order.
    #[serde(flatten)]
    pub order: Order,
    /// The trace context of the request that placed it; every execution of its saga is in that trace.
    traceparent: Option<String>,
    /// The sort key of the index `by_buyer`.
    created: String,
    /// The partition of the index `open`; set until the order is settled.
    open: Option<String>,
    /// The sort key of the index `open`.
    due: String,
}

impl Record {
    /// A new order, in the current trace.
    fn new(order: Order) -> Self {
        Self::placed(order, traceparent())
    }

    /// The order that was read, after a change.
    fn changed(&self, order: Order) -> Self {
        Self::placed(order, self.traceparent.clone())
    }

    fn placed(order: Order, traceparent: Option<String>) -> Self {
        let created = format!("{}#{}", order.created_at, order.id);
        let open = (!order.settled).then(|| OPEN.to_owned());
        let due = format!("{}#{}", order.check_at, order.id);
        Self { order, traceparent, created, open, due }
    }
}

impl Creatable for Record {
    fn created_at(&self) -> Timestamp {
        self.order.created_at
    }
}

/// An order's entry in the index `open`: its key, and when it is due.
#[derive(Debug, Deserialize)]
pub struct Due {
    #[serde(flatten)]
    key: Key,
    /// The time and the order's id.
    due: String,
}

impl Due {
    /// The order's id.
    pub fn order_id(&self) -> &str {
        self.due.rsplit('#').next().unwrap_or_default()
    }
}

/// The orders.
#[derive(Clone, Debug)]
pub struct Orders {
    table: Table,
}

fn key(order: Uuid) -> Key {
    Key::new(format!("order#{order}"), "order")
}

impl Orders {
    /// Connects to the table.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self { table: Table::connect().await? })
    }

    /// The table, for the copies of users.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// This service's copy of a user.
    pub async fn user(&self, user: Uuid) -> Result<Option<UserCopy>, table::Error> {
        self.table.get(user_copies::key(user)).await
    }

    /// The buyer's own order; 404 if it does not exist or belongs to someone else.
    pub async fn find(&self, order: Uuid, buyer: Uuid) -> Result<Order, Problem> {
        own(self.read(key(order)).await?, buyer).map(|record| record.aggregate.order)
    }

    /// The buyer's own order, for a change: 403 if the buyer's profile has been deleted.
    pub async fn find_to_change(&self, order: Uuid, buyer: Uuid) -> Result<WithRequest<Record>, Problem> {
        let (order, user) = (key(order), user_copies::key(buyer));
        let mut items = self.table.batch_get(&[order.clone(), user.clone()]).await?;
        user_copies::refuse_deleted(items.take(&user)?.as_ref())?;
        let stored: Option<Stored<WithRequest<Record>>> = items.take(&order)?;
        own(stored.and_then(Stored::live), buyer)
    }

    async fn read(&self, key: Key) -> Result<Option<WithRequest<Record>>, table::Error> {
        Ok(self.table.get::<Stored<WithRequest<Record>>>(key).await?.and_then(Stored::live))
    }

    /// A page of a buyer's orders, newest first.
    pub async fn list(&self, buyer: Uuid, page: &PageRequest) -> Result<Found<Order>, table::Error> {
        let list = Self::of_buyer(buyer);
        let found = self.table.page_of_items::<Stored<Order>>(&list, page.after(), page.limit()).await?;
        Ok(found.filter_map(Stored::live))
    }

    /// The list of a buyer's orders, newest first.
    fn of_buyer(buyer: Uuid) -> List {
        let partition = ("buyer_id", buyer.to_string());
        List { index: "by_buyer", partition, sort: "created", newest_first: true }
    }

    /// What the buyer may still order. An order is never deleted, so every one counts.
    pub async fn allowance(&self, buyer: Uuid, limit: HourlyLimit) -> Result<Allowance, table::Error> {
        self.table.allowance(&[Self::of_buyer(buyer)], limit).await
    }

    /// 429 if nothing is left, unless the request is a repeat.
    pub async fn require_allowance(
        &self,
        allowance: Allowance,
        request: &CreationRequest,
    ) -> Result<(), Problem> {
        self.table.require_allowance(allowance, key(request.id())).await
    }

    /// Stores a new order.
    pub async fn create(
        &self,
        request: &CreationRequest,
        order: Order,
        event: CloudEvent<OrderEvent>,
    ) -> Result<Creation<Order>, table::Error> {
        let creation = self.table.create_once(key(order.id), request, Record::new(order), event).await?;
        if matches!(creation, Creation::Done(_)) {
            ORDERS_PLACED.increment();
        }
        Ok(creation.map(|record| record.order))
    }

    /// The order, for a step of the saga. It is an error if the order does not exist, because an execution is only started for a
    /// stored order.
    pub async fn get(&self, order: Uuid) -> Result<Order, table::Error> {
        Ok(self.existing(order).await?.aggregate.order)
    }

    async fn existing(&self, order: Uuid) -> Result<WithRequest<Record>, table::Error> {
        let record = self.read(key(order)).await?;
        record.ok_or_else(|| table::Error::Broken(format!("there is no order {order}").into()))
    }

    /// Makes a decision about an order and stores it.
    pub async fn decide<D, E>(
        &self,
        order: Uuid,
        decide: impl Fn(&Order) -> Result<(D, Decision), E>,
    ) -> Result<(D, Order), E>
    where
        E: From<table::Error>,
    {
        self.decide_from(self.existing(order).await?, decide).await
    }

    /// Like [`Self::decide`], for an order that has been read. If the order has changed since, it is read and decided again.
    pub async fn decide_from<D, E>(
        &self,
        mut record: WithRequest<Record>,
        decide: impl Fn(&Order) -> Result<(D, Decision), E>,
    ) -> Result<(D, Order), E>
    where
        E: From<table::Error>,
    {
        let mut retries = Retries::new(FIRST_PAUSE, RETRIES);
        loop {
            let (answer, decision) = decide(&record.aggregate.order)?;
            let Decision::Change(change) = decision else { return Ok((answer, record.aggregate.order)) };
            let OrderChange { order, event } = *change;
            if self.replace(&record, order.clone(), event).await? {
                return Ok((answer, order));
            }
            // A pause makes another conflict less likely.
            if !retries.wait().await {
                return Err(table::Error::Unavailable("the order kept changing".into()).into());
            }
            record = self.existing(order.id).await?;
        }
    }

    /// Stores a change of the order that was read; false if it has changed since.
    async fn replace(
        &self,
        read: &WithRequest<Record>,
        changed: Order,
        event: Option<CloudEvent<OrderEvent>>,
    ) -> Result<bool, table::Error> {
        let key = key(changed.id);
        let kind = event.as_ref().map(|event| event.payload.clone());
        let version = read.aggregate.order.version;
        let record = read.with(read.aggregate.changed(changed));
        let written = self.table.replace(key, version, &record, event).await? == Written::Done;
        if let Some(event) = kind.filter(|_| written) {
            count(&record.aggregate.order, &event);
        }
        Ok(written)
    }

    /// A page of the orders that the reconciler should handle: not settled, those due longest first.
    pub async fn due(
        &self,
        now: Timestamp,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Found<Due>, table::Error> {
        let partition = ("open", OPEN.to_owned());
        let list = List { index: "open", partition, sort: "due", newest_first: false };
        let now = now.to_string();
        Ok(self.table.page::<Due>(&list, after, limit).await?.take_while(|due| due.due < now))
    }

    /// The order that is due, with its trace context.
    pub async fn get_due(&self, due: &Due) -> Result<Option<(Order, Option<String>)>, table::Error> {
        let record = self.read(due.key.clone()).await?;
        Ok(record.map(|record| (record.aggregate.order, record.aggregate.traceparent)))
    }
}

/// Counts the result of a decision.
fn count(order: &Order, event: &OrderEvent) {
    match event {
        OrderEvent::Confirmed(_) => ORDERS_CONFIRMED.increment(),
        OrderEvent::Cancelled(_) => ORDERS_CANCELLED.increment(),
        OrderEvent::Rejected(summary) => {
            ORDERS_REJECTED.increment_for(summary.reason.clone().unwrap_or_default());
        }
        // Placed orders are counted when they are stored, parked ones when an operator is alerted.
        OrderEvent::Placed(_) | OrderEvent::NeedsAttention(_) => return,
    }
    DECISION_TIME.record(order.updated_at.since(order.created_at));
}

fn own(record: Option<WithRequest<Record>>, buyer: Uuid) -> Result<WithRequest<Record>, Problem> {
    record
        .filter(|record| record.aggregate.order.buyer_id == buyer)
        .ok_or_else(|| Problem::not_found("order"))
}

#[cfg(test)]
mod tests {
    use kernel::{idempotency::IdempotencyKey, input::Fields};

    use super::*;
    use crate::draft::Draft;

    #[test]
    fn a_change_keeps_the_trace_context_and_the_request_digest() {
        let body = br#"{"items": [{"sku": "tea", "quantity": 2}], "payment_method": "pm_card_visa"}"#;
        let draft = Draft::read(Fields::read(body).unwrap()).unwrap();
        let (order, _) =
            Order::place(Uuid::from_u128(1), Uuid::from_u128(7), draft, Timestamp::from_microsecond(0));
        let placed = Record { traceparent: Some("00-1-2-01".to_owned()), ..Record::new(order.clone()) };
        let key = IdempotencyKey::parse(b"k").unwrap();
        let request = CreationRequest::new(order.buyer_id, "POST /orders", Some(&key), &order.draft);
        let placed = WithRequest::by(&request, placed);
        let changed = placed.with(placed.aggregate.changed(Order { version: 2, ..order }));
        assert_eq!(
            (&changed.aggregate.traceparent, changed.origin(), changed.aggregate.order.version),
            (&placed.aggregate.traceparent, placed.origin(), 2)
        );
        let placed = placed.aggregate;
        let due = Due { key: super::key(placed.order.id), due: placed.due };
        assert_eq!(due.order_id(), placed.order.id.to_string());
    }

    #[test]
    fn an_order_is_in_the_index_open_until_it_is_settled() {
        let body = br#"{"items": [{"sku": "tea", "quantity": 2}], "payment_method": "pm_card_visa"}"#;
        let draft = Draft::read(Fields::read(body).unwrap()).unwrap();
        let now = Timestamp::from_microsecond(0);
        let (order, _) = Order::place(Uuid::from_u128(1), Uuid::from_u128(7), draft, now);
        let record = Record::new(order.clone());
        assert_eq!(record.open.as_deref(), Some(OPEN));
        assert_eq!(record.due, format!("{}#{}", now.plus_seconds(30), order.id));
        let settled = Record::new(Order { settled: true, ..order });
        assert_eq!(settled.open, None);
    }
}
