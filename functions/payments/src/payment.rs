//! The aggregate: what a payment is, how it changes, and what a step of the saga does next.
//!
//! A step is a loop: [`next_action`] takes the record as it was last read or written, and the provider's answer since then if there
//! is one, and returns one action. The caller carries it out and calls again with the result, until nothing is left to do. The action depends only
//! on the current record, never on what an earlier attempt was about to do. So a step can be interrupted anywhere, run twice,
//! and race with any other.
//!
//! Why no money stays held:
//! - the provider holds money only for a payment that is in the table,
//! - a payment is cancelled at the provider, which refuses a late hold from then on, before it is cancelled in the table,
//! - if a payment is cancelled before it begins, a tombstone is stored, so that it cannot begin later.

use std::fmt;

use events::{PaymentAmount, PaymentEvent};
use kernel::{clock::Timestamp, event::CloudEvent, money::Money, saga::Refusal};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The saga's request for a payment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Purchase {
    /// The order.
    pub order_id: Uuid,
    /// Who pays.
    pub buyer_id: Uuid,
    /// The amount.
    pub amount: Money,
    /// The payment method, by the provider's name for it, never a card's number.
    pub payment_method: String,
}

/// The status of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "PaymentStatus"))]
pub enum Status {
    /// It is prepared at the provider; the money may or may not be held yet.
    Pending,
    /// The money is held.
    Authorized,
    /// The money was captured.
    Captured,
    /// The card was declined. Nothing is held.
    Declined,
    /// The hold was released, or was never made.
    Cancelled,
    /// The captured money was refunded.
    Refunded,
}

/// The payment provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "PaymentProvider"))]
pub enum ProviderName {
    /// The built-in sandbox, which moves no money.
    Sandbox,
    /// Stripe.
    Stripe,
}

/// The status of the payment at the provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum IntentStatus {
    /// Nothing is held yet: it is not confirmed, or still in progress.
    Open,
    /// The money is held.
    Held,
    /// It was declined.
    Declined {
        /// Why, by the provider's decline code.
        code: String,
    },
    /// The money was captured.
    Captured,
    /// Nothing is held, and nothing can be held any more.
    Cancelled,
    /// The captured money was refunded.
    Refunded,
}

impl fmt::Display for IntentStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Open => "open",
            Self::Held => "held",
            Self::Declined { .. } => "declined",
            Self::Captured => "captured",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        })
    }
}

/// The result of preparing a payment at the provider, which holds no money yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Prepared {
    /// It is prepared; this is the provider's reference.
    Intent(String),
    /// It is refused: the provider does not know the payment method, or does not accept the amount.
    Declined {
        /// Why, by the provider's error code.
        code: String,
    },
}

/// The payment of an order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Payment {
    /// The order.
    pub order_id: Uuid,
    /// Who pays.
    pub buyer_id: Uuid,
    /// The amount.
    pub amount: Money,
    /// The payment method, by the provider's name for it.
    pub payment_method: String,
    /// The payment provider.
    pub provider: ProviderName,
    /// The provider's id of the payment; `None` if it declined before it gave one.
    pub provider_reference: Option<String>,
    /// Its status.
    pub status: Status,
    /// Why it was declined, if it was.
    pub decline_code: Option<String>,
    /// When the payment was created.
    pub created_at: Timestamp,
    /// 1 at first, increased by each change.
    pub version: u64,
}

impl Payment {
    /// A new payment, with what the provider has prepared.
    pub fn begin(purchase: Purchase, provider: ProviderName, prepared: Prepared, now: Timestamp) -> Self {
        let (provider_reference, status, decline_code) = match prepared {
            Prepared::Intent(reference) => (Some(reference), Status::Pending, None),
            Prepared::Declined { code } => (None, Status::Declined, Some(code)),
        };
        let Purchase { order_id, buyer_id, amount, payment_method } = purchase;
        Self {
            order_id,
            buyer_id,
            amount,
            payment_method,
            provider,
            provider_reference,
            status,
            decline_code,
            created_at: now,
            version: 1,
        }
    }

    /// The payment after the provider has reported this status; `None` if that changes nothing.
    ///
    /// A status only moves forward: a late answer changes nothing.
    #[must_use]
    pub fn after(&self, intent: &IntentStatus) -> Option<Self> {
        let status = match (self.status, intent) {
            (Status::Pending, IntentStatus::Held) => Status::Authorized,
            (Status::Pending, IntentStatus::Declined { .. }) => Status::Declined,
            (Status::Pending | Status::Authorized, IntentStatus::Captured) => Status::Captured,
            (Status::Pending | Status::Authorized, IntentStatus::Cancelled) => Status::Cancelled,
            (Status::Pending | Status::Authorized | Status::Captured, IntentStatus::Refunded) => {
                Status::Refunded
            }
            _ => return None,
        };
        let decline_code = match intent {
            IntentStatus::Declined { code } => Some(code.clone()),
            _ => None,
        };
        Some(Self { status, decline_code, version: self.version + 1, ..self.clone() })
    }

    /// The event of the latest change; `None` if that change publishes nothing.
    pub fn event(&self, now: Timestamp) -> Option<CloudEvent<PaymentEvent>> {
        let amount = PaymentAmount { order_id: self.order_id, amount: self.amount };
        let payload = match self.status {
            Status::Pending | Status::Declined => return None,
            Status::Authorized => PaymentEvent::Authorized(amount),
            Status::Captured => PaymentEvent::Captured(amount),
            Status::Cancelled => PaymentEvent::Cancelled(amount),
            Status::Refunded => PaymentEvent::Refunded(amount),
        };
        Some(CloudEvent::new(self.order_id, self.version, now, payload))
    }
}

/// The record of an order's payment in the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PaymentRecord {
    /// There is no record.
    Absent,
    /// There is a payment.
    Payment(Payment),
    /// A tombstone: it was cancelled before it began, and will never begin.
    Tombstone,
}

/// What a step or webhook asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Hold the money: `AuthorizePayment`.
    Authorize(Purchase),
    /// Capture what is held: `CapturePayment`.
    Capture,
    /// Release what is held, refund what was captured: `CancelPayment`, the compensation of the other two.
    Cancel,
    /// Record the status of the payment at the provider.
    Synchronize,
}

/// A request to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderRequest {
    /// Hold the money.
    Authorize,
    /// Capture what is held.
    Capture,
    /// Release what is held, or refund what was captured. Nothing happens if that was done before.
    Cancel,
    /// Read the status of the payment.
    Status,
}

/// The next action.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Have the provider prepare a payment, then write the result of [`Payment::begin`] if there is no record.
    Begin(Purchase),
    /// Send a request to the provider, and call again with its answer and the same record.
    Ask(ProviderRequest),
    /// Write this payment and its event if the table still has the version before it; call again with the record that is then
    /// stored.
    Write(Box<Payment>),
    /// Write a tombstone if there is no record; call again with the record that is then stored.
    WriteTombstone,
    /// The command has been carried out, or there is nothing to do.
    Done,
    /// The command is refused, for good.
    Refuse(Refusal),
    /// The command cannot be carried out now: a retry or an operator has to handle it.
    Fail(String),
}

/// The next action for a command, from the record as it was last read or written and the provider's answer since then.
pub fn next_action(command: &Command, record: &PaymentRecord, intent: Option<&IntentStatus>) -> Action {
    match (command, record) {
        (Command::Authorize(purchase), PaymentRecord::Absent) => Action::Begin(purchase.clone()),
        (Command::Authorize(_), PaymentRecord::Tombstone) => Action::Refuse(Refusal::Cancelled),
        (Command::Authorize(purchase), PaymentRecord::Payment(payment)) => {
            authorize(purchase, payment, intent)
        }
        (Command::Capture, PaymentRecord::Payment(payment)) => capture(payment, intent),
        (Command::Capture, _) => Action::Fail("there is no payment to capture".to_owned()),
        (Command::Cancel, PaymentRecord::Absent) => Action::WriteTombstone,
        (Command::Cancel, PaymentRecord::Payment(payment)) => cancel(payment, intent),
        (Command::Synchronize, PaymentRecord::Payment(payment)) => synchronize(payment, intent),
        (Command::Cancel | Command::Synchronize, _) => Action::Done,
    }
}

fn authorize(purchase: &Purchase, payment: &Payment, intent: Option<&IntentStatus>) -> Action {
    match payment.status {
        Status::Declined => Action::Refuse(Refusal::Declined),
        Status::Cancelled | Status::Refunded => Action::Refuse(Refusal::Cancelled),
        _ if payment.amount != purchase.amount => {
            Action::Fail("the order's payment was begun with another amount".to_owned())
        }
        Status::Authorized | Status::Captured => Action::Done,
        Status::Pending => ask(ProviderRequest::Authorize, payment, intent),
    }
}

/// Captures what [`authorize`] has held.
fn capture(payment: &Payment, intent: Option<&IntentStatus>) -> Action {
    match payment.status {
        Status::Captured => Action::Done,
        Status::Authorized => ask(ProviderRequest::Capture, payment, intent),
        status => Action::Fail(format!("there is no held money to capture: the payment is {status:?}")),
    }
}

/// Compensates [`authorize`] and [`capture`], however far they got.
fn cancel(payment: &Payment, intent: Option<&IntentStatus>) -> Action {
    let done = match payment.status {
        Status::Cancelled | Status::Refunded => true,
        // It stays declined, but is cancelled at the provider, so that the intent cannot be confirmed again.
        Status::Declined => payment.provider_reference.is_none() || intent == Some(&IntentStatus::Cancelled),
        Status::Pending | Status::Authorized | Status::Captured => false,
    };
    match intent {
        _ if done => Action::Done,
        // Only the provider's answer proves that no money is held.
        None | Some(IntentStatus::Cancelled | IntentStatus::Refunded) => {
            ask(ProviderRequest::Cancel, payment, intent)
        }
        Some(intent) => mismatch(payment, intent),
    }
}

fn synchronize(payment: &Payment, intent: Option<&IntentStatus>) -> Action {
    match intent {
        None if payment.provider_reference.is_some() => Action::Ask(ProviderRequest::Status),
        None => Action::Done,
        Some(intent) => {
            payment.after(intent).map_or(Action::Done, |changed| Action::Write(Box::new(changed)))
        }
    }
}

/// Sends the request, then writes the status that the provider answered with.
fn ask(request: ProviderRequest, payment: &Payment, intent: Option<&IntentStatus>) -> Action {
    let Some(intent) = intent else { return Action::Ask(request) };
    payment
        .after(intent)
        .map_or_else(|| mismatch(payment, intent), |changed| Action::Write(Box::new(changed)))
}

fn mismatch(payment: &Payment, intent: &IntentStatus) -> Action {
    Action::Fail(format!("the payment is {:?} in the table but {intent} at the provider", payment.status))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ORDER: Uuid = Uuid::from_u128(1);
    const ALL: [Status; 6] = [
        Status::Pending,
        Status::Authorized,
        Status::Captured,
        Status::Declined,
        Status::Cancelled,
        Status::Refunded,
    ];

    fn money(amount: i64) -> Money {
        serde_json::from_value(json!({"amount": amount, "currency": "USD"})).unwrap()
    }

    fn purchase() -> Purchase {
        Purchase {
            order_id: ORDER,
            buyer_id: Uuid::from_u128(2),
            amount: money(1250),
            payment_method: "pm_card_visa".to_owned(),
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_microsecond(0)
    }

    fn declined() -> IntentStatus {
        IntentStatus::Declined { code: "generic_decline".to_owned() }
    }

    fn intent_statuses() -> [IntentStatus; 6] {
        [
            IntentStatus::Open,
            IntentStatus::Held,
            declined(),
            IntentStatus::Captured,
            IntentStatus::Cancelled,
            IntentStatus::Refunded,
        ]
    }

    fn given(status: Status) -> Payment {
        let prepared = Prepared::Intent("pi_1".to_owned());
        Payment { status, ..Payment::begin(purchase(), ProviderName::Sandbox, prepared, now()) }
    }

    fn when(command: &Command, status: Status, intent: Option<&IntentStatus>) -> Action {
        next_action(command, &PaymentRecord::Payment(given(status)), intent)
    }

    fn write(before: Status, after: Status) -> Action {
        Action::Write(Box::new(Payment { status: after, version: 2, ..given(before) }))
    }

    fn authorize() -> Command {
        Command::Authorize(purchase())
    }

    #[test]
    fn a_payment_begins_pending_without_an_event() {
        let payment =
            Payment::begin(purchase(), ProviderName::Stripe, Prepared::Intent("pi_1".to_owned()), now());
        let expected = json!({
            "order_id": ORDER,
            "buyer_id": Uuid::from_u128(2),
            "amount": {"amount": 1250, "currency": "USD"},
            "payment_method": "pm_card_visa",
            "provider": "stripe",
            "provider_reference": "pi_1",
            "status": "PENDING",
            "decline_code": null,
            "created_at": "1970-01-01T00:00:00.000000Z",
            "version": 1,
        });
        assert_eq!(serde_json::to_value(&payment).unwrap(), expected);
        assert_eq!(payment.event(now()), None);
    }

    #[test]
    fn a_payment_that_cannot_be_prepared_is_declined_at_once() {
        let prepared = Prepared::Declined { code: "resource_missing".to_owned() };
        let payment = Payment::begin(purchase(), ProviderName::Stripe, prepared, now());
        assert_eq!(payment.status, Status::Declined);
        assert_eq!(payment.provider_reference, None);
        assert_eq!(payment.decline_code.as_deref(), Some("resource_missing"));
        let record = PaymentRecord::Payment(payment);
        assert_eq!(next_action(&authorize(), &record, None), Action::Refuse(Refusal::Declined));
        assert_eq!(next_action(&Command::Cancel, &record, None), Action::Done);
        assert_eq!(next_action(&Command::Synchronize, &record, None), Action::Done);
    }

    #[test]
    fn a_payment_only_goes_forward() {
        for before in ALL {
            for intent in intent_statuses() {
                let after = given(before).after(&intent).map(|payment| payment.status);
                let expected = match (before, &intent) {
                    (Status::Pending, IntentStatus::Held) => Some(Status::Authorized),
                    (Status::Pending, IntentStatus::Declined { .. }) => Some(Status::Declined),
                    (Status::Pending | Status::Authorized, IntentStatus::Captured) => Some(Status::Captured),
                    (Status::Pending | Status::Authorized, IntentStatus::Cancelled) => {
                        Some(Status::Cancelled)
                    }
                    (Status::Pending | Status::Authorized | Status::Captured, IntentStatus::Refunded) => {
                        Some(Status::Refunded)
                    }
                    _ => None,
                };
                assert_eq!(after, expected, "{before:?} {intent}");
            }
        }
    }

    #[test]
    fn each_change_increments_the_version_and_has_its_event() {
        let amount = PaymentAmount { order_id: ORDER, amount: money(1250) };
        for (intent, event) in [
            (IntentStatus::Held, Some(PaymentEvent::Authorized(amount.clone()))),
            (IntentStatus::Captured, Some(PaymentEvent::Captured(amount.clone()))),
            (IntentStatus::Cancelled, Some(PaymentEvent::Cancelled(amount.clone()))),
            (IntentStatus::Refunded, Some(PaymentEvent::Refunded(amount.clone()))),
            (declined(), None),
        ] {
            let payment = given(Status::Pending).after(&intent).unwrap();
            assert_eq!(payment.version, 2);
            let published = payment.event(now()).map(|event| (event.subject, event.sequence, event.payload));
            assert_eq!(published, event.map(|event| (ORDER, 2, event)), "{intent}");
        }
    }

    #[test]
    fn a_decline_keeps_its_code() {
        let payment = given(Status::Pending).after(&declined()).unwrap();
        assert_eq!(payment.decline_code.as_deref(), Some("generic_decline"));
    }

    #[test]
    fn authorizing_begins_asks_and_writes() {
        assert_eq!(next_action(&authorize(), &PaymentRecord::Absent, None), Action::Begin(purchase()));
        assert_eq!(when(&authorize(), Status::Pending, None), Action::Ask(ProviderRequest::Authorize));
        assert_eq!(
            when(&authorize(), Status::Pending, Some(&IntentStatus::Held)),
            write(Status::Pending, Status::Authorized)
        );
        assert_eq!(when(&authorize(), Status::Authorized, None), Action::Done);
    }

    #[test]
    fn authorizing_again_returns_the_first_result() {
        assert_eq!(when(&authorize(), Status::Captured, None), Action::Done);
        assert_eq!(when(&authorize(), Status::Declined, None), Action::Refuse(Refusal::Declined));
    }

    #[test]
    fn authorizing_too_late_is_refused() {
        let refused = Action::Refuse(Refusal::Cancelled);
        assert_eq!(next_action(&authorize(), &PaymentRecord::Tombstone, None), refused);
        assert_eq!(when(&authorize(), Status::Cancelled, None), refused);
        assert_eq!(when(&authorize(), Status::Refunded, None), refused);
    }

    #[test]
    fn authorizing_stores_a_cancellation_made_at_the_provider() {
        let cancelled = Some(&IntentStatus::Cancelled);
        assert_eq!(when(&authorize(), Status::Pending, cancelled), write(Status::Pending, Status::Cancelled));
    }

    #[test]
    fn authorizing_another_amount_fails() {
        let command = Command::Authorize(Purchase { amount: money(1), ..purchase() });
        for status in [Status::Pending, Status::Authorized, Status::Captured] {
            assert!(matches!(when(&command, status, None), Action::Fail(_)), "{status:?}");
        }
    }

    #[test]
    fn capturing_takes_what_is_held() {
        assert_eq!(when(&Command::Capture, Status::Authorized, None), Action::Ask(ProviderRequest::Capture));
        assert_eq!(
            when(&Command::Capture, Status::Authorized, Some(&IntentStatus::Captured)),
            write(Status::Authorized, Status::Captured)
        );
        assert_eq!(when(&Command::Capture, Status::Captured, None), Action::Done);
    }

    #[test]
    fn capturing_what_is_not_held_fails() {
        for status in [Status::Pending, Status::Declined, Status::Cancelled, Status::Refunded] {
            let then = when(&Command::Capture, status, None);
            let cause = format!("there is no held money to capture: the payment is {status:?}");
            assert_eq!(then, Action::Fail(cause));
        }
        for record in [PaymentRecord::Absent, PaymentRecord::Tombstone] {
            assert!(matches!(next_action(&Command::Capture, &record, None), Action::Fail(_)), "{record:?}");
        }
    }

    #[test]
    fn cancelling_before_there_is_a_payment_leaves_a_tombstone() {
        assert_eq!(next_action(&Command::Cancel, &PaymentRecord::Absent, None), Action::WriteTombstone);
        assert_eq!(next_action(&Command::Cancel, &PaymentRecord::Tombstone, None), Action::Done);
    }

    #[test]
    fn cancelling_asks_the_provider_before_it_writes() {
        for status in [Status::Pending, Status::Authorized, Status::Captured, Status::Declined] {
            assert_eq!(
                when(&Command::Cancel, status, None),
                Action::Ask(ProviderRequest::Cancel),
                "{status:?}"
            );
        }
        for (before, intent, after) in [
            (Status::Pending, IntentStatus::Cancelled, Status::Cancelled),
            (Status::Pending, IntentStatus::Refunded, Status::Refunded),
            (Status::Authorized, IntentStatus::Cancelled, Status::Cancelled),
            (Status::Authorized, IntentStatus::Refunded, Status::Refunded),
            (Status::Captured, IntentStatus::Refunded, Status::Refunded),
        ] {
            assert_eq!(when(&Command::Cancel, before, Some(&intent)), write(before, after), "{before:?}");
        }
    }

    #[test]
    fn cancelling_a_declined_payment_leaves_it_declined() {
        assert_eq!(when(&Command::Cancel, Status::Declined, Some(&IntentStatus::Cancelled)), Action::Done);
    }

    #[test]
    fn cancelling_again_changes_nothing() {
        assert_eq!(when(&Command::Cancel, Status::Cancelled, None), Action::Done);
        assert_eq!(when(&Command::Cancel, Status::Refunded, None), Action::Done);
    }

    #[test]
    fn cancelling_fails_until_the_provider_confirms_it() {
        for status in [Status::Pending, Status::Authorized, Status::Captured, Status::Declined] {
            for intent in [IntentStatus::Open, IntentStatus::Held, IntentStatus::Captured] {
                let then = when(&Command::Cancel, status, Some(&intent));
                assert!(matches!(then, Action::Fail(_)), "{status:?} {intent}: {then:?}");
            }
        }
    }

    #[test]
    fn a_request_that_does_not_change_the_status_fails_with_both_statuses() {
        assert_eq!(
            when(&authorize(), Status::Pending, Some(&IntentStatus::Open)),
            Action::Fail("the payment is Pending in the table but open at the provider".to_owned())
        );
        assert_eq!(
            when(&Command::Capture, Status::Authorized, Some(&IntentStatus::Held)),
            Action::Fail("the payment is Authorized in the table but held at the provider".to_owned())
        );
    }

    #[test]
    fn synchronizing_stores_the_status_at_the_provider() {
        for status in ALL {
            assert_eq!(when(&Command::Synchronize, status, None), Action::Ask(ProviderRequest::Status));
            for intent in intent_statuses() {
                let expected = given(status)
                    .after(&intent)
                    .map_or(Action::Done, |payment| Action::Write(Box::new(payment)));
                assert_eq!(
                    when(&Command::Synchronize, status, Some(&intent)),
                    expected,
                    "{status:?} {intent}"
                );
            }
        }
        assert_eq!(next_action(&Command::Synchronize, &PaymentRecord::Absent, None), Action::Done);
        assert_eq!(next_action(&Command::Synchronize, &PaymentRecord::Tombstone, None), Action::Done);
    }
}
