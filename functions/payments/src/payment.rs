//! The aggregate: what a payment is, how it changes, and what a step of the saga does next.
//!
//! A step is a loop: [`next`] looks at the record in the table and at what the provider has answered since it was read, and
//! returns one action. The caller carries it out and calls again with the result, until nothing is left to do. The action
//! depends only on the present record, never on the intention of an earlier attempt. So a step can be interrupted anywhere,
//! run twice, and race with any other.
//!
//! Why no money stays held:
//! - the provider holds money only for a payment that is in the table,
//! - a payment is cancelled at the provider, which refuses a late hold from then on, before it is cancelled in the table,
//! - an order whose payment was cancelled before it began has a tombstone, so that none can begin.

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
    /// How much.
    pub amount: Money,
    /// What with: the provider's name for a card, never the card's number.
    pub payment_method: String,
}

/// The status of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "PaymentStatus"))]
pub enum Status {
    /// The provider was asked to hold the money, which may or may not be held.
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
    /// The money was taken and given back.
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
    /// How much.
    pub amount: Money,
    /// What with: the provider's name for a card.
    pub payment_method: String,
    /// The payment provider.
    pub provider: ProviderName,
    /// The provider's name for the payment; none if it declined before it gave one.
    pub provider_reference: Option<String>,
    /// Its status.
    pub status: Status,
    /// Why it was declined, if it was.
    pub decline_code: Option<String>,
    /// When the payment was created.
    pub created_at: Timestamp,
    /// 1 when it begins, one more with each change.
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

    /// The payment with the status at the provider; `None` if that changes nothing.
    ///
    /// Only forward: a late answer never turns a payment back.
    #[must_use]
    pub fn after(&self, said: &IntentStatus) -> Option<Self> {
        let status = match (self.status, said) {
            (Status::Pending, IntentStatus::Held) => Status::Authorized,
            (Status::Pending, IntentStatus::Declined { .. }) => Status::Declined,
            (Status::Pending | Status::Authorized, IntentStatus::Captured) => Status::Captured,
            (Status::Pending | Status::Authorized, IntentStatus::Cancelled) => Status::Cancelled,
            (Status::Pending | Status::Authorized | Status::Captured, IntentStatus::Refunded) => {
                Status::Refunded
            }
            _ => return None,
        };
        let decline_code = match said {
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
    /// Nothing.
    None,
    /// Its payment.
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
pub enum Next {
    /// Have the provider prepare a payment, then write the result of [`Payment::begin`] if there is no record.
    Begin(Purchase),
    /// Send a request to the provider, and call again with its answer and the same record.
    Ask(ProviderRequest),
    /// Replace the version before this one, with its event, and call again with the record afterwards.
    Write(Box<Payment>),
    /// Write a tombstone if there is no record, and call again with the record afterwards.
    Bury,
    /// Nothing: the command is done.
    Done,
    /// Nothing: the command is refused.
    Refuse(Refusal),
    /// Nothing now: a retry, or an operator, has to handle it.
    Fail(String),
}

/// The next action for a command, from the record as it was last read or written and the provider's answer since then.
pub fn next(command: &Command, record: &PaymentRecord, said: Option<&IntentStatus>) -> Next {
    match (command, record) {
        (Command::Authorize(purchase), PaymentRecord::None) => Next::Begin(purchase.clone()),
        (Command::Authorize(_), PaymentRecord::Tombstone) => Next::Refuse(Refusal::Cancelled),
        (Command::Authorize(purchase), PaymentRecord::Payment(payment)) => authorize(purchase, payment, said),
        (Command::Capture, PaymentRecord::Payment(payment)) => capture(payment, said),
        (Command::Capture, _) => Next::Fail("there is no payment to capture".to_owned()),
        (Command::Cancel, PaymentRecord::None) => Next::Bury,
        (Command::Cancel, PaymentRecord::Payment(payment)) => cancel(payment, said),
        (Command::Synchronize, PaymentRecord::Payment(payment)) => synchronize(payment, said),
        (Command::Cancel | Command::Synchronize, _) => Next::Done,
    }
}

fn authorize(purchase: &Purchase, payment: &Payment, said: Option<&IntentStatus>) -> Next {
    match payment.status {
        Status::Declined => Next::Refuse(Refusal::Declined),
        Status::Cancelled | Status::Refunded => Next::Refuse(Refusal::Cancelled),
        _ if payment.amount != purchase.amount => {
            Next::Fail("the order's payment has begun with another amount".to_owned())
        }
        Status::Authorized | Status::Captured => Next::Done,
        Status::Pending => ask(ProviderRequest::Authorize, payment, said),
    }
}

/// Captures what [`authorize`] has held.
fn capture(payment: &Payment, said: Option<&IntentStatus>) -> Next {
    match payment.status {
        Status::Captured => Next::Done,
        Status::Authorized => ask(ProviderRequest::Capture, payment, said),
        status => Next::Fail(format!("nothing is held that could be captured: the payment is {status:?}")),
    }
}

/// Compensates [`authorize`] and [`capture`], at whatever point they are.
fn cancel(payment: &Payment, said: Option<&IntentStatus>) -> Next {
    let done = match payment.status {
        Status::Cancelled | Status::Refunded => true,
        // It stays declined. It is cancelled at the provider all the same, so that no one can try the intent again.
        Status::Declined => payment.provider_reference.is_none() || said == Some(&IntentStatus::Cancelled),
        Status::Pending | Status::Authorized | Status::Captured => false,
    };
    match said {
        _ if done => Next::Done,
        // Only the provider's answer proves that the money is free.
        None | Some(IntentStatus::Cancelled | IntentStatus::Refunded) => {
            ask(ProviderRequest::Cancel, payment, said)
        }
        Some(said) => unsettled(payment, said),
    }
}

fn synchronize(payment: &Payment, said: Option<&IntentStatus>) -> Next {
    match said {
        None if payment.provider_reference.is_some() => Next::Ask(ProviderRequest::Status),
        None => Next::Done,
        Some(said) => payment.after(said).map_or(Next::Done, |changed| Next::Write(Box::new(changed))),
    }
}

/// Reads the status from the provider, and writes it.
fn ask(request: ProviderRequest, payment: &Payment, said: Option<&IntentStatus>) -> Next {
    let Some(said) = said else { return Next::Ask(request) };
    payment.after(said).map_or_else(|| unsettled(payment, said), |changed| Next::Write(Box::new(changed)))
}

fn unsettled(payment: &Payment, said: &IntentStatus) -> Next {
    Next::Fail(format!("the payment is {:?}, and the provider has it as {said}", payment.status))
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

    fn words() -> [IntentStatus; 6] {
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

    fn when(command: &Command, status: Status, said: Option<&IntentStatus>) -> Next {
        next(command, &PaymentRecord::Payment(given(status)), said)
    }

    fn write(before: Status, after: Status) -> Next {
        Next::Write(Box::new(Payment { status: after, version: 2, ..given(before) }))
    }

    fn authorize() -> Command {
        Command::Authorize(purchase())
    }

    #[test]
    fn a_payment_begins_pending_and_says_nothing_to_others() {
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
    fn a_payment_that_the_provider_would_not_prepare_for_is_declined_at_once() {
        let prepared = Prepared::Declined { code: "resource_missing".to_owned() };
        let payment = Payment::begin(purchase(), ProviderName::Stripe, prepared, now());
        assert_eq!(payment.status, Status::Declined);
        assert_eq!(payment.provider_reference, None);
        assert_eq!(payment.decline_code.as_deref(), Some("resource_missing"));
        let record = PaymentRecord::Payment(payment);
        assert_eq!(next(&authorize(), &record, None), Next::Refuse(Refusal::Declined));
        assert_eq!(next(&Command::Cancel, &record, None), Next::Done);
        assert_eq!(next(&Command::Synchronize, &record, None), Next::Done);
    }

    #[test]
    fn a_payment_only_goes_forward() {
        for before in ALL {
            for said in words() {
                let after = given(before).after(&said).map(|payment| payment.status);
                let expected = match (before, &said) {
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
                assert_eq!(after, expected, "{before:?} {said}");
            }
        }
    }

    #[test]
    fn each_change_adds_one_to_the_version_and_has_its_event() {
        let amount = PaymentAmount { order_id: ORDER, amount: money(1250) };
        for (said, event) in [
            (IntentStatus::Held, Some(PaymentEvent::Authorized(amount.clone()))),
            (IntentStatus::Captured, Some(PaymentEvent::Captured(amount.clone()))),
            (IntentStatus::Cancelled, Some(PaymentEvent::Cancelled(amount.clone()))),
            (IntentStatus::Refunded, Some(PaymentEvent::Refunded(amount.clone()))),
            (declined(), None),
        ] {
            let payment = given(Status::Pending).after(&said).unwrap();
            assert_eq!(payment.version, 2);
            let told = payment.event(now()).map(|event| (event.subject, event.sequence, event.payload));
            assert_eq!(told, event.map(|event| (ORDER, 2, event)), "{said}");
        }
    }

    #[test]
    fn a_decline_keeps_its_reason() {
        let payment = given(Status::Pending).after(&declined()).unwrap();
        assert_eq!(payment.decline_code.as_deref(), Some("generic_decline"));
    }

    #[test]
    fn authorizing_begins_asks_and_writes() {
        assert_eq!(next(&authorize(), &PaymentRecord::None, None), Next::Begin(purchase()));
        assert_eq!(when(&authorize(), Status::Pending, None), Next::Ask(ProviderRequest::Authorize));
        assert_eq!(
            when(&authorize(), Status::Pending, Some(&IntentStatus::Held)),
            write(Status::Pending, Status::Authorized)
        );
        assert_eq!(when(&authorize(), Status::Authorized, None), Next::Done);
    }

    #[test]
    fn authorizing_again_answers_as_the_first_time() {
        assert_eq!(when(&authorize(), Status::Captured, None), Next::Done);
        assert_eq!(when(&authorize(), Status::Declined, None), Next::Refuse(Refusal::Declined));
    }

    #[test]
    fn authorizing_too_late_is_refused() {
        let refused = Next::Refuse(Refusal::Cancelled);
        assert_eq!(next(&authorize(), &PaymentRecord::Tombstone, None), refused);
        assert_eq!(when(&authorize(), Status::Cancelled, None), refused);
        assert_eq!(when(&authorize(), Status::Refunded, None), refused);
    }

    #[test]
    fn authorizing_finds_that_a_cancellation_was_first_at_the_provider() {
        let cancelled = Some(&IntentStatus::Cancelled);
        assert_eq!(when(&authorize(), Status::Pending, cancelled), write(Status::Pending, Status::Cancelled));
    }

    #[test]
    fn authorizing_another_amount_than_the_first_time_is_for_a_person() {
        let command = Command::Authorize(Purchase { amount: money(1), ..purchase() });
        for status in [Status::Pending, Status::Authorized, Status::Captured] {
            assert!(matches!(when(&command, status, None), Next::Fail(_)), "{status:?}");
        }
    }

    #[test]
    fn capturing_takes_what_is_held() {
        assert_eq!(when(&Command::Capture, Status::Authorized, None), Next::Ask(ProviderRequest::Capture));
        assert_eq!(
            when(&Command::Capture, Status::Authorized, Some(&IntentStatus::Captured)),
            write(Status::Authorized, Status::Captured)
        );
        assert_eq!(when(&Command::Capture, Status::Captured, None), Next::Done);
    }

    #[test]
    fn capturing_what_is_not_held_is_for_a_person() {
        for status in [Status::Pending, Status::Declined, Status::Cancelled, Status::Refunded] {
            let then = when(&Command::Capture, status, None);
            let cause = format!("nothing is held that could be captured: the payment is {status:?}");
            assert_eq!(then, Next::Fail(cause));
        }
        for record in [PaymentRecord::None, PaymentRecord::Tombstone] {
            assert!(matches!(next(&Command::Capture, &record, None), Next::Fail(_)), "{record:?}");
        }
    }

    #[test]
    fn cancelling_before_there_is_a_payment_keeps_it_from_beginning() {
        assert_eq!(next(&Command::Cancel, &PaymentRecord::None, None), Next::Bury);
        assert_eq!(next(&Command::Cancel, &PaymentRecord::Tombstone, None), Next::Done);
    }

    #[test]
    fn cancelling_asks_the_provider_before_it_believes_anything() {
        for status in [Status::Pending, Status::Authorized, Status::Captured, Status::Declined] {
            assert_eq!(
                when(&Command::Cancel, status, None),
                Next::Ask(ProviderRequest::Cancel),
                "{status:?}"
            );
        }
        for (before, said, after) in [
            (Status::Pending, IntentStatus::Cancelled, Status::Cancelled),
            (Status::Pending, IntentStatus::Refunded, Status::Refunded),
            (Status::Authorized, IntentStatus::Cancelled, Status::Cancelled),
            (Status::Authorized, IntentStatus::Refunded, Status::Refunded),
            (Status::Captured, IntentStatus::Refunded, Status::Refunded),
        ] {
            assert_eq!(when(&Command::Cancel, before, Some(&said)), write(before, after), "{before:?}");
        }
    }

    #[test]
    fn cancelling_a_declined_payment_leaves_it_declined() {
        assert_eq!(when(&Command::Cancel, Status::Declined, Some(&IntentStatus::Cancelled)), Next::Done);
    }

    #[test]
    fn cancelling_again_has_nothing_to_do() {
        assert_eq!(when(&Command::Cancel, Status::Cancelled, None), Next::Done);
        assert_eq!(when(&Command::Cancel, Status::Refunded, None), Next::Done);
    }

    #[test]
    fn cancelling_is_not_done_while_the_provider_has_the_money() {
        for status in [Status::Pending, Status::Authorized, Status::Captured, Status::Declined] {
            for said in [IntentStatus::Open, IntentStatus::Held, IntentStatus::Captured] {
                let then = when(&Command::Cancel, status, Some(&said));
                assert!(matches!(then, Next::Fail(_)), "{status:?} {said}: {then:?}");
            }
        }
    }

    #[test]
    fn a_step_that_the_provider_leaves_where_it_was_fails_and_says_so() {
        assert_eq!(
            when(&authorize(), Status::Pending, Some(&IntentStatus::Open)),
            Next::Fail("the payment is Pending, and the provider has it as open".to_owned())
        );
        assert_eq!(
            when(&Command::Capture, Status::Authorized, Some(&IntentStatus::Held)),
            Next::Fail("the payment is Authorized, and the provider has it as held".to_owned())
        );
    }

    #[test]
    fn synchronizing_notes_what_the_provider_says_and_asks_for_nothing() {
        for status in ALL {
            assert_eq!(when(&Command::Synchronize, status, None), Next::Ask(ProviderRequest::Status));
            for said in words() {
                let expected =
                    given(status).after(&said).map_or(Next::Done, |payment| Next::Write(Box::new(payment)));
                assert_eq!(when(&Command::Synchronize, status, Some(&said)), expected, "{status:?} {said}");
            }
        }
        assert_eq!(next(&Command::Synchronize, &PaymentRecord::None, None), Next::Done);
        assert_eq!(next(&Command::Synchronize, &PaymentRecord::Tombstone, None), Next::Done);
    }
}
