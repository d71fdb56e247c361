//! Payments in the table, one item each, beside the webhooks that were handled.

use kernel::clock::Timestamp;
use runtime::{
    Error,
    table::{
        self, Condition, Key, Table, Written,
        aggregate::{Stored, TOMBSTONE_LIFE, Tombstone},
    },
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use uuid::Uuid;

use crate::payment::{Payment, PaymentRecord};

/// How long a processed webhook is remembered, in seconds: two days. Its signature is valid for five minutes. After that only
/// the provider can send it again, and that only reads the status again.
const WEBHOOK_LIFE: i64 = 2 * 24 * 60 * 60;

/// The payments.
#[derive(Clone, Debug)]
pub struct Payments {
    table: Table,
}

/// A new record, which publishes no event.
#[derive(Serialize)]
struct Item<'a> {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    stored: Stored<&'a Payment>,
}

/// A webhook that was handled.
#[derive(Serialize, Deserialize)]
struct ProcessedWebhook {
    #[serde(flatten)]
    key: Key,
    expires_at: i64,
}

fn key(order_id: Uuid) -> Key {
    Key::new(format!("payment#{order_id}"), "payment")
}

fn webhook_key(event_id: &str) -> Key {
    Key::new(format!("webhook#{event_id}"), "webhook")
}

fn record(stored: Option<Stored<Payment>>) -> PaymentRecord {
    match stored {
        None => PaymentRecord::Absent,
        Some(Stored::Live(payment)) => PaymentRecord::Payment(payment),
        Some(Stored::Deleted(_)) => PaymentRecord::Tombstone,
    }
}

impl Payments {
    /// Connects to the table.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self { table: Table::connect().await? })
    }

    /// The table, for the sandbox's books.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The record of an order's payment.
    pub async fn find(&self, order_id: Uuid) -> Result<PaymentRecord, table::Error> {
        Ok(record(self.table.get(key(order_id)).await?))
    }

    /// Stores a new payment if there is no record. Returns the record that is then stored.
    pub async fn begin(&self, payment: Payment) -> Result<PaymentRecord, table::Error> {
        let order_id = payment.order_id;
        let written = self.put(order_id, Stored::Live(&payment)).await?;
        Ok(written.unwrap_or(PaymentRecord::Payment(payment)))
    }

    /// Stores a tombstone, so that no payment can begin, if there is no record. Returns the record that is then stored.
    pub async fn write_tombstone(
        &self,
        order_id: Uuid,
        now: Timestamp,
    ) -> Result<PaymentRecord, table::Error> {
        let tombstone = Tombstone { version: 1, origin: None, expires_at: now.as_second() + TOMBSTONE_LIFE };
        Ok(self.put(order_id, Stored::Deleted(tombstone)).await?.unwrap_or(PaymentRecord::Tombstone))
    }

    /// Replaces the version before this one, with the event. Returns the record that is then stored.
    pub async fn change(&self, payment: Payment, now: Timestamp) -> Result<PaymentRecord, table::Error> {
        let (key, read) = (key(payment.order_id), payment.version - 1);
        match self.table.replace(key, read, &payment, payment.event(now)).await? {
            Written::Done => Ok(PaymentRecord::Payment(payment)),
            Written::ConditionFailed(_) => self.find(payment.order_id).await,
        }
    }

    /// Whether a webhook was handled before.
    pub async fn is_processed(&self, event_id: &str) -> Result<bool, table::Error> {
        let webhook: Option<IgnoredAny> = self.table.get(webhook_key(event_id)).await?;
        Ok(webhook.is_some())
    }

    /// Records that a webhook was handled.
    pub async fn mark_processed(&self, event_id: &str, now: Timestamp) -> Result<(), table::Error> {
        let webhook =
            ProcessedWebhook { key: webhook_key(event_id), expires_at: now.as_second() + WEBHOOK_LIFE };
        // If the condition fails, it was handled concurrently.
        self.table.put::<IgnoredAny>(&webhook, Condition::absent()).await.map(drop)
    }

    /// Writes a record if there is none. Returns the existing one otherwise.
    async fn put(
        &self,
        order_id: Uuid,
        stored: Stored<&Payment>,
    ) -> Result<Option<PaymentRecord>, table::Error> {
        let item = Item { key: key(order_id), stored };
        match self.table.put(&item, Condition::absent()).await? {
            Written::Done => Ok(None),
            Written::ConditionFailed(existing) => Ok(Some(record(existing))),
        }
    }
}
