//! The built-in sandbox: it moves no money, knows Stripe's test payment methods, and is deterministic.
//!
//! Its books are in the payments table, one item per payment, but apart from the payments: what the sandbox holds does not
//! depend on what this service has recorded.

use std::time::Duration;

use kernel::money::Money;
use runtime::{
    retry::Retries,
    table::{Condition, Key, Table, Written},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    error::ProviderError,
    payment::{IntentStatus, Payment, Prepared, ProviderRequest, Purchase},
};

/// Maximum retries of a request when the intent changes concurrently.
const RETRIES: usize = 4;
/// Maximum pause before the first of them; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Stripe's code for a payment method that does not exist.
const UNKNOWN: &str = "resource_missing";

/// A payment in the sandbox's books.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Intent {
    /// The amount.
    pub amount: Money,
    /// Its status. There is no entry before money is held or declined.
    #[serde(flatten)]
    pub status: IntentStatus,
    /// 1 at first, increased by each change.
    pub version: u64,
}

/// An intent after a request; `None` if the request changes nothing.
pub fn carry_out(
    request: ProviderRequest,
    existing: Option<&Intent>,
    amount: Money,
    payment_method: &str,
) -> Option<Intent> {
    let status = match (request, existing.map(|intent| &intent.status)) {
        (ProviderRequest::Authorize, None) => confirm(payment_method),
        (ProviderRequest::Capture, Some(IntentStatus::Held)) => IntentStatus::Captured,
        (ProviderRequest::Cancel, Some(IntentStatus::Captured)) => IntentStatus::Refunded,
        // After that an intent that was not confirmed can no longer be confirmed.
        (
            ProviderRequest::Cancel,
            None | Some(IntentStatus::Open | IntentStatus::Held | IntentStatus::Declined { .. }),
        ) => IntentStatus::Cancelled,
        _ => return None,
    };
    Some(Intent { amount, status, version: existing.map_or(0, |intent| intent.version) + 1 })
}

/// The sandbox's answer to a payment method, with Stripe's names.
fn confirm(payment_method: &str) -> IntentStatus {
    let code = match payment_method {
        "pm_card_visa" => return IntentStatus::Held,
        "pm_card_chargeDeclined" => "generic_decline",
        "pm_card_chargeDeclinedInsufficientFunds" => "insufficient_funds",
        _ => UNKNOWN,
    };
    IntentStatus::Declined { code: code.to_owned() }
}

/// An intent as it is stored.
#[derive(Serialize, Deserialize)]
struct Item {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    intent: Intent,
}

/// The sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    table: Table,
}

fn key(order_id: Uuid) -> Key {
    Key::new(format!("sandbox#{order_id}"), "intent")
}

impl Sandbox {
    /// The sandbox whose books are in this table.
    pub fn new(table: Table) -> Self {
        Self { table }
    }

    /// Returns the reference, which is derived from the order's id. Nothing is stored yet.
    pub fn prepare(&self, purchase: &Purchase) -> Prepared {
        Prepared::Intent(format!("sandbox_{}", purchase.order_id))
    }

    /// Carries out a request and returns the status of the payment afterwards.
    pub async fn ask(
        &self,
        request: ProviderRequest,
        payment: &Payment,
    ) -> Result<IntentStatus, ProviderError> {
        let key = key(payment.order_id);
        // A payment to authorize is usually new, so it is written without a read before.
        let mut existing: Option<Item> = match request {
            ProviderRequest::Authorize => None,
            _ => self.table.get(key.clone()).await?,
        };
        let mut retries = Retries::new(FIRST_PAUSE, RETRIES);
        loop {
            let intent = existing.as_ref().map(|item| &item.intent);
            let Some(changed) = carry_out(request, intent, payment.amount, &payment.payment_method) else {
                return Ok(intent.map_or(IntentStatus::Open, |intent| intent.status.clone()));
            };
            let condition =
                intent.map_or_else(Condition::absent, |intent| Condition::version(intent.version));
            let item = Item { key: key.clone(), intent: changed };
            match self.table.put(&item, condition).await? {
                Written::Done => {
                    explain(payment, &item.intent.status);
                    return Ok(item.intent.status);
                }
                Written::ConditionFailed(current) => existing = current,
            }
            if !retries.wait().await {
                return Err(ProviderError::Unavailable("the intent kept changing".into()));
            }
        }
    }
}

/// Logs the accepted payment methods after a typing error, because a decline does not name them.
fn explain(payment: &Payment, status: &IntentStatus) {
    if matches!(status, IntentStatus::Declined { code } if code == UNKNOWN) {
        tracing::info!(
            order_id = %payment.order_id,
            "the sandbox knows no such payment method; it knows pm_card_visa, pm_card_chargeDeclined and \
             pm_card_chargeDeclinedInsufficientFunds"
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn amount() -> Money {
        serde_json::from_value(json!({"amount": 1250, "currency": "USD"})).unwrap()
    }

    fn given(status: IntentStatus) -> Intent {
        Intent { amount: amount(), status, version: 1 }
    }

    fn declined(code: &str) -> IntentStatus {
        IntentStatus::Declined { code: code.to_owned() }
    }

    fn when(request: ProviderRequest, existing: Option<&Intent>) -> Option<IntentStatus> {
        carry_out(request, existing, amount(), "pm_card_visa").map(|intent| intent.status)
    }

    #[test]
    fn the_payment_method_alone_decides() {
        for (payment_method, then) in [
            ("pm_card_visa", IntentStatus::Held),
            ("pm_card_chargeDeclined", declined("generic_decline")),
            ("pm_card_chargeDeclinedInsufficientFunds", declined("insufficient_funds")),
            ("pm_card_unknown", declined("resource_missing")),
        ] {
            let intent = carry_out(ProviderRequest::Authorize, None, amount(), payment_method);
            assert_eq!(intent, Some(given(then)), "{payment_method}");
        }
    }

    #[test]
    fn held_money_is_captured_or_released_and_captured_money_is_refunded() {
        let (held, captured) = (given(IntentStatus::Held), given(IntentStatus::Captured));
        assert_eq!(when(ProviderRequest::Capture, Some(&held)), Some(IntentStatus::Captured));
        assert_eq!(when(ProviderRequest::Cancel, Some(&held)), Some(IntentStatus::Cancelled));
        assert_eq!(when(ProviderRequest::Cancel, Some(&captured)), Some(IntentStatus::Refunded));
        let changed = carry_out(ProviderRequest::Capture, Some(&held), amount(), "pm_card_visa").unwrap();
        assert_eq!(changed.version, held.version + 1);
    }

    #[test]
    fn a_cancelled_intent_cannot_be_authorized() {
        assert_eq!(when(ProviderRequest::Cancel, None), Some(IntentStatus::Cancelled));
        assert_eq!(when(ProviderRequest::Authorize, Some(&given(IntentStatus::Cancelled))), None);
    }

    #[test]
    fn a_repeat_changes_nothing() {
        for (request, status) in [
            (ProviderRequest::Authorize, IntentStatus::Held),
            (ProviderRequest::Authorize, declined("generic_decline")),
            (ProviderRequest::Authorize, IntentStatus::Captured),
            (ProviderRequest::Capture, IntentStatus::Captured),
            (ProviderRequest::Cancel, IntentStatus::Cancelled),
            (ProviderRequest::Cancel, IntentStatus::Refunded),
            (ProviderRequest::Status, IntentStatus::Held),
        ] {
            assert_eq!(when(request, Some(&given(status.clone()))), None, "{request:?} {status:?}");
        }
    }

    #[test]
    fn what_is_not_held_is_not_captured() {
        assert_eq!(when(ProviderRequest::Capture, None), None);
        for status in [declined("generic_decline"), IntentStatus::Cancelled, IntentStatus::Refunded] {
            assert_eq!(when(ProviderRequest::Capture, Some(&given(status.clone()))), None, "{status:?}");
        }
    }

    #[test]
    fn an_item_has_the_status_as_an_attribute_and_reads_back_the_same() {
        let item = Item { key: key(Uuid::from_u128(1)), intent: given(declined("generic_decline")) };
        let json = serde_json::to_value(&item).unwrap();
        assert_eq!(
            json,
            json!({
                "pk": "sandbox#00000000-0000-0000-0000-000000000001",
                "sk": "intent",
                "amount": {"amount": 1250, "currency": "USD"},
                "status": "declined",
                "code": "generic_decline",
                "version": 1,
            })
        );
        assert_eq!(serde_json::from_value::<Item>(json).unwrap().intent, item.intent);
    }
}
