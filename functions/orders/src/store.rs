//! Orders in the table, one item each, beside copies of users.

use std::time::Duration;

use events::OrderEvent;
use kernel::{clock::Timestamp, event::CloudEvent, problem::Problem};
use runtime::{
    Error,
    aggregate::{Origin, Stored},
    metrics::{ORDERS_CANCELLED, ORDERS_CONFIRMED, ORDERS_PLACED, ORDERS_REJECTED, SETTLING_TIME},
    table::{self, Found, Key, Query, Row, Table, Written},
    telemetry::traceparent,
    user_copies::{self, UserCopy},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::order::{Changed, Decision, Order};

/// Maximum retries when the order changes concurrently.
const ATTEMPTS: u64 = 5;
/// The one partition of the index `open`.
const OPEN: &str = "open";

/// An order as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The order.
    #[serde(flatten)]
    pub order: Order,
    /// The digest of the request that placed it.
    pub request: String,
    /// The trace context of the request that placed it; every execution of its saga is in that trace.
    traceparent: Option<String>,
    /// The sort key of the index `by_buyer`.
    pub created: String,
    /// The partition of the index `open`; present until the order is settled.
    open: Option<String>,
    /// The sort key of the index `open`.
    due: String,
}

impl Record {
    /// A new order, placed by the request with this digest, in the present trace.
    pub fn new(order: Order, request: String) -> Self {
        Self::placed(order, request, traceparent())
    }

    /// The order that was read, after a change.
    fn changed(&self, order: Order) -> Self {
        Self::placed(order, self.request.clone(), self.traceparent.clone())
    }

    fn placed(order: Order, request: String, traceparent: Option<String>) -> Self {
        let created = format!("{}#{}", order.created_at, order.id);
        let open = (!order.settled).then(|| OPEN.to_owned());
        let due = format!("{}#{}", order.check_at, order.id);
        Self { order, request, traceparent, created, open, due }
    }

    /// The request that placed it, and when.
    pub fn origin(&self) -> Origin {
        Origin { created_at: self.order.created_at, request: self.request.clone() }
    }
}

/// An order's entry in the index `open`: its key, and when it is due.
#[derive(Debug, Deserialize)]
pub struct Due {
    #[serde(flatten)]
    key: Key,
    /// The time and the order's id.
    pub due: String,
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

    /// The buyer's own order; 404 if there is none, or it is another's.
    pub async fn find(&self, order: Uuid, buyer: Uuid) -> Result<Order, Problem> {
        own(self.read(key(order)).await?, buyer).map(|record| record.order)
    }

    /// The buyer's own order, for a change: 403 if the buyer's profile has been deleted.
    pub async fn find_to_change(&self, order: Uuid, buyer: Uuid) -> Result<Record, Problem> {
        let (order, user) = (key(order), user_copies::key(buyer));
        let mut items = self.table.read(&[order.clone(), user.clone()]).await?;
        user_copies::refuse_deleted(items.take(&user)?.as_ref())?;
        let stored: Option<Stored<Record>> = items.take(&order)?;
        own(stored.and_then(Stored::live), buyer)
    }

    async fn read(&self, key: Key) -> Result<Option<Record>, table::Error> {
        Ok(self.table.get::<Stored<Record>>(key).await?.and_then(Stored::live))
    }

    /// A page of a buyer's orders, newest first, with the position of its end if there are more.
    pub async fn list(
        &self,
        buyer: Uuid,
        after: Option<String>,
        limit: u32,
    ) -> Result<(Vec<Order>, Option<String>), table::Error> {
        let query = Query {
            index: "by_buyer",
            partition: ("buyer_id", buyer.to_string()),
            sort: "created",
            after,
            newest_first: true,
            limit,
        };
        let Found { items: rows, more } = self.table.query::<Row>(&query).await?;
        let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
        let mut items = self.table.read(&keys).await?;
        let orders = keys.iter().map(|key| {
            let record = items.take::<Stored<Record>>(key)?.and_then(Stored::live);
            Ok(record.map(|record| record.order))
        });
        let orders = orders.filter_map(Result::transpose).collect::<Result<_, table::Error>>()?;
        let last = rows.last().filter(|_| more).map(|row| row.created.clone());
        Ok((orders, last))
    }

    /// Stores a new order.
    pub async fn create(
        &self,
        record: &Record,
        event: CloudEvent<OrderEvent>,
    ) -> Result<Written<Stored<Record>>, table::Error> {
        let written = self.table.create(key(record.order.id), record, event).await?;
        if matches!(written, Written::Done) {
            ORDERS_PLACED.one();
        }
        Ok(written)
    }

    /// The order, for a step of the saga: an order with an execution exists.
    pub async fn get(&self, order: Uuid) -> Result<Order, table::Error> {
        Ok(self.existing(order).await?.order)
    }

    async fn existing(&self, order: Uuid) -> Result<Record, table::Error> {
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

    /// Like [`Self::decide`], for an order that has been read. If it has changed since, this reads it and decides again.
    pub async fn decide_from<D, E>(
        &self,
        mut record: Record,
        decide: impl Fn(&Order) -> Result<(D, Decision), E>,
    ) -> Result<(D, Order), E>
    where
        E: From<table::Error>,
    {
        for attempt in 1..=ATTEMPTS {
            let (answer, decision) = decide(&record.order)?;
            let Decision::Change(changed) = decision else { return Ok((answer, record.order)) };
            let Changed { order, event } = *changed;
            if self.replace(&record, order.clone(), event).await? {
                return Ok((answer, order));
            }
            // With a pause, so that the retry does not conflict again.
            tokio::time::sleep(Duration::from_millis(20 * attempt)).await;
            record = self.existing(order.id).await?;
        }
        Err(table::Error::Unavailable("the order kept changing".into()).into())
    }

    /// Stores a change of the order that was read; false if it has changed since.
    async fn replace(
        &self,
        read: &Record,
        changed: Order,
        event: Option<CloudEvent<OrderEvent>>,
    ) -> Result<bool, table::Error> {
        let key = key(changed.id);
        let kind = event.as_ref().map(|event| event.payload.clone());
        let record = read.changed(changed);
        let written = self.table.replace(key, read.order.version, &record, event).await? == Written::Done;
        if let Some(event) = kind.filter(|_| written) {
            count(&record.order, &event);
        }
        Ok(written)
    }

    /// A page of the orders that the reconciler should handle: not settled, those due longest first, and whether there are more.
    pub async fn due(
        &self,
        now: Timestamp,
        after: Option<String>,
        limit: u32,
    ) -> Result<(Vec<Due>, bool), table::Error> {
        let query = Query {
            index: "open",
            partition: ("open", OPEN.to_owned()),
            sort: "due",
            after,
            newest_first: false,
            limit,
        };
        let Found { items, more } = self.table.query::<Due>(&query).await?;
        let read = items.len();
        let now = now.to_string();
        let due: Vec<Due> = items.into_iter().take_while(|due| due.due < now).collect();
        let more = more && due.len() == read;
        Ok((due, more))
    }

    /// The order that is due, with its trace context.
    pub async fn get_due(&self, due: &Due) -> Result<Option<(Order, Option<String>)>, table::Error> {
        let record = self.read(due.key.clone()).await?;
        Ok(record.map(|record| (record.order, record.traceparent)))
    }
}

/// Counts the result of a decision.
fn count(order: &Order, event: &OrderEvent) {
    match event {
        OrderEvent::Confirmed(_) => ORDERS_CONFIRMED.one(),
        OrderEvent::Cancelled(_) => ORDERS_CANCELLED.one(),
        OrderEvent::Rejected(summary) => {
            ORDERS_REJECTED.one_of(summary.reason.clone().unwrap_or_default());
        }
        // Placed orders are counted when they are stored, parked ones when an operator is alerted.
        OrderEvent::Placed(_) | OrderEvent::NeedsAttention(_) => return,
    }
    SETTLING_TIME.took(order.updated_at.since(order.created_at));
}

fn own(record: Option<Record>, buyer: Uuid) -> Result<Record, Problem> {
    record.filter(|record| record.order.buyer_id == buyer).ok_or_else(|| Problem::not_found("order"))
}

#[cfg(test)]
mod tests {
    use kernel::input::Fields;

    use super::*;
    use crate::draft::Draft;

    #[test]
    fn a_change_of_an_order_leaves_it_in_its_trace_and_under_its_request() {
        let body = br#"{"items": [{"sku": "tea", "quantity": 2}], "payment_method": "pm_card_visa"}"#;
        let draft = Draft::read(Fields::read(body).unwrap()).unwrap();
        let (order, _) =
            Order::place(Uuid::from_u128(1), Uuid::from_u128(7), draft, Timestamp::from_microsecond(0));
        let placed = Record {
            traceparent: Some("00-1-2-01".to_owned()),
            ..Record::new(order.clone(), "digest".to_owned())
        };
        let changed = placed.changed(Order { version: 2, ..order });
        assert_eq!(
            (changed.traceparent, changed.request, changed.order.version),
            (placed.traceparent, placed.request, 2)
        );
        let due = Due { key: key(placed.order.id), due: placed.due };
        assert_eq!(due.order_id(), placed.order.id.to_string());
    }

    #[test]
    fn an_order_is_in_the_index_of_open_ones_until_it_is_settled() {
        let body = br#"{"items": [{"sku": "tea", "quantity": 2}], "payment_method": "pm_card_visa"}"#;
        let draft = Draft::read(Fields::read(body).unwrap()).unwrap();
        let now = Timestamp::from_microsecond(0);
        let (order, _) = Order::place(Uuid::from_u128(1), Uuid::from_u128(7), draft, now);
        let record = Record::new(order.clone(), "digest".to_owned());
        assert_eq!(record.open.as_deref(), Some(OPEN));
        assert_eq!(record.due, format!("{}#{}", now.plus_seconds(30), order.id));
        let settled = Record::new(Order { settled: true, ..order }, "digest".to_owned());
        assert_eq!(settled.open, None);
    }
}
