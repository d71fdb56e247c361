//! The aggregate: what an order is and how it changes.
//!
//! Exactly one of three decisions about a pending order wins, because each is a conditional write of the same item: it is
//! confirmed (the saga's pivot), cancelled (by its buyer), or aborted (by the saga, before anything is compensated; it is shown
//! as pending until that is done, and then rejected). After that a confirmed order is only completed, and an aborted or
//! cancelled one only compensated, even if steps are repeated, delayed or interrupted.

use events::{OrderEvent, OrderSummary, PricedItem};
use kernel::{
    clock::Timestamp,
    event::CloudEvent,
    money::Money,
    saga::{ExecutionStatus, Refusal},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::draft::Draft;

/// Maximum executions for an order. After the last one it is parked for an operator.
pub const MAX_EXECUTIONS: u32 = 3;
/// How long the reconciler leaves an order alone after an execution should have started, in seconds. Longer than the time-out
/// of the function that starts it.
const GRACE_PERIOD: i64 = 30;

/// The status of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "OrderStatus"))]
pub enum Status {
    /// It is being processed.
    Pending,
    /// It will be delivered.
    Confirmed,
    /// It will not be delivered.
    Rejected,
    /// Its buyer cancelled it.
    Cancelled,
    /// It waits for an operator.
    NeedsAttention, // shown, never stored: see Order::parked
}

/// Why an order is rejected or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "OrderReason"))]
pub enum Reason {
    /// The buyer has no profile, or it was deleted.
    UserNotFound,
    /// An item is out of stock.
    OutOfStock,
    /// The total differs from the expected one.
    PriceChanged,
    /// The card was declined.
    PaymentDeclined,
    /// The buyer cancelled it.
    CancelledByUser,
    /// An item does not exist.
    UnknownSku,
    /// The items are priced in different currencies.
    MixedCurrencies,
    /// The total is larger than JSON can carry exactly.
    TotalTooLarge,
    /// A step failed for another reason, for example because a service was not available.
    ServiceUnavailable,
}

impl Reason {
    /// The reason to store if a step failed with the error of this name.
    pub fn of_error(name: Option<&str>) -> Self {
        match name.and_then(Refusal::from_name) {
            Some(Refusal::UserNotFound) => Self::UserNotFound,
            Some(Refusal::OutOfStock) => Self::OutOfStock,
            Some(Refusal::UnknownSku) => Self::UnknownSku,
            Some(Refusal::PriceChanged) => Self::PriceChanged,
            Some(Refusal::MixedCurrencies) => Self::MixedCurrencies,
            Some(Refusal::TotalTooLarge) => Self::TotalTooLarge,
            Some(Refusal::Declined) => Self::PaymentDeclined,
            Some(Refusal::Cancelled | Refusal::AlreadyConfirmed | Refusal::NeedsAttention) | None => {
                Self::ServiceUnavailable
            }
        }
    }

    fn name(self) -> Option<String> {
        serde_json::to_value(self).ok().and_then(|value| Some(value.as_str()?.to_owned()))
    }
}

/// The price of an order, as inventory calculated it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quote {
    /// Each item with its unit price.
    pub lines: Vec<PricedItem>,
    /// The total price.
    pub total: Money,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    /// The order's id.
    pub id: Uuid,
    /// Who placed it.
    pub buyer_id: Uuid,
    /// The ordered items.
    #[serde(flatten)]
    pub draft: Draft,
    /// Its status.
    pub status: Status,
    /// Its price, once inventory has calculated it.
    pub prices: Option<Quote>,
    /// Why it will not be delivered. A pending order with a reason is aborted, and is being compensated.
    pub reason: Option<Reason>,
    /// Whether it waits for an operator. Independent of its status.
    pub parked: bool,
    /// The last visit of the state machine to the state that parks or resumes the order. `None` before the first, and after the
    /// reconciler parked it.
    pub visit: Option<Visit>,
    /// The number of the latest execution, from 1.
    pub attempt: u32,
    /// Whether everything that follows from its status is done.
    pub settled: bool,
    /// The earliest time at which the reconciler handles it.
    pub check_at: Timestamp,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// 1 at first, increased by each change.
    pub version: u64,
}

/// The result of a decision about an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The same decision was made before: nothing to write.
    AlreadyMade,
    /// The order changes: write it.
    Change(Box<OrderChange>),
}

/// A change of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderChange {
    /// The order after it.
    pub order: Order,
    /// The event to publish, if there is one.
    pub event: Option<CloudEvent<OrderEvent>>,
}

impl Decision {
    /// The order after the decision.
    pub fn applied_to(self, order: &Order) -> Order {
        match self {
            Self::AlreadyMade => order.clone(),
            Self::Change(change) => change.order,
        }
    }
}

/// The result of a visit to the state that parks an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkOutcome {
    /// The order waits for an operator.
    Waits(Decision),
    /// The execution goes on: an operator redrove it, or the order is settled already.
    Resumes(Decision),
}

/// A visit of an execution to the state that parks its order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Visit {
    /// The execution, by its name.
    pub execution: String,
    /// The id of the state's entry: the same if the visit is retried, another for the next visit.
    pub entry: String,
}

/// What the reconciler does about an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reconciliation {
    /// Nothing.
    Leave,
    /// Starts the latest execution, which was not started.
    Start,
    /// Changes the order, then starts its next execution.
    StartNext(Decision),
    /// Records that everything is done.
    Settle(Decision),
    /// Leaves the order to an operator.
    Park(Decision),
}

/// The buyer's cancellation comes too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLate(pub Status);

impl Order {
    /// A new order.
    pub fn place(id: Uuid, buyer_id: Uuid, draft: Draft, now: Timestamp) -> (Self, CloudEvent<OrderEvent>) {
        let order = Self {
            id,
            buyer_id,
            draft,
            status: Status::Pending,
            prices: None,
            reason: None,
            parked: false,
            visit: None,
            attempt: 1,
            settled: false,
            check_at: now.plus_seconds(GRACE_PERIOD),
            created_at: now,
            updated_at: now,
            version: 1,
        };
        let event = order.event(OrderEvent::Placed);
        (order, event)
    }

    /// The status as its buyer sees it.
    pub fn visible_status(&self) -> Status {
        if self.parked { Status::NeedsAttention } else { self.status }
    }

    /// The name of the latest execution: the order's id; from the second attempt on, `<id>-<attempt>`.
    pub fn execution(&self) -> String {
        match self.attempt {
            1 => self.id.to_string(),
            attempt => format!("{}-{attempt}", self.id),
        }
    }

    /// Checks that the saga may still go forward. Refused if the order was confirmed, aborted, cancelled or rejected.
    pub fn may_proceed(&self) -> Result<(), Refusal> {
        match self.status {
            Status::Confirmed => Err(Refusal::AlreadyConfirmed),
            Status::Pending if self.reason.is_none() => Ok(()),
            _ => Err(Refusal::Cancelled),
        }
    }

    /// The pivot: from here on the order only goes forward.
    pub fn confirm(&self, prices: Quote, now: Timestamp) -> Result<Decision, Refusal> {
        match self.may_proceed() {
            Err(Refusal::AlreadyConfirmed) => Ok(Decision::AlreadyMade),
            Err(refusal) => Err(refusal),
            Ok(()) => {
                let confirmed = Self {
                    status: Status::Confirmed,
                    prices: Some(prices),
                    parked: false,
                    ..self.changed(now)
                };
                Ok(confirmed.with_event(OrderEvent::Confirmed))
            }
        }
    }

    /// The opposite of the pivot: decides that the order will not be confirmed, and why, before anything is compensated. The
    /// first reason is kept.
    pub fn abort(&self, reason: Reason, prices: Option<Quote>, now: Timestamp) -> Result<Decision, Refusal> {
        match self.may_proceed() {
            Err(Refusal::AlreadyConfirmed) => Err(Refusal::AlreadyConfirmed),
            Err(_) => Ok(Decision::AlreadyMade),
            Ok(()) => {
                let aborted = Self {
                    reason: Some(reason),
                    prices: prices.or_else(|| self.prices.clone()),
                    ..self.changed(now)
                };
                Ok(aborted.without_event())
            }
        }
    }

    /// Settles an order after its compensations: a pending one is rejected, a cancelled one stays cancelled. Refused if it was
    /// neither aborted nor cancelled.
    pub fn reject(&self, now: Timestamp) -> Result<Decision, Refusal> {
        if self.settled && self.may_proceed() == Err(Refusal::Cancelled) {
            return Ok(Decision::AlreadyMade);
        }
        let settled = Self { settled: true, parked: false, ..self.changed(now) };
        match self.may_proceed() {
            // No one decided to compensate: an operator has to look at it.
            Ok(()) => Err(Refusal::NeedsAttention),
            Err(Refusal::Cancelled) if self.status == Status::Pending => {
                Ok(Self { status: Status::Rejected, ..settled }.with_event(OrderEvent::Rejected))
            }
            Err(Refusal::Cancelled) => Ok(settled.without_event()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Cancels the order for its buyer. The conditional write afterwards fails if the order was confirmed in the meantime.
    pub fn cancel(&self, now: Timestamp) -> Result<Decision, TooLate> {
        if self.status == Status::Cancelled {
            return Ok(Decision::AlreadyMade);
        }
        if self.parked || self.may_proceed().is_err() {
            return Err(TooLate(self.visible_status()));
        }
        let cancelled =
            Self { status: Status::Cancelled, reason: Some(Reason::CancelledByUser), ..self.changed(now) };
        Ok(cancelled.with_event(OrderEvent::Cancelled))
    }

    /// An execution gave up and leaves the order to an operator. The execution fails after that. If it visits the state again,
    /// an operator has redriven it, so the order is resumed. A retry of the same visit changes nothing.
    pub fn park(&self, visit: &Visit, now: Timestamp) -> ParkOutcome {
        let last = self.visit.as_ref();
        if self.settled || (last == Some(visit) && !self.parked) {
            return ParkOutcome::Resumes(Decision::AlreadyMade);
        }
        if last == Some(visit) {
            return ParkOutcome::Waits(Decision::AlreadyMade);
        }
        let visited = Self { visit: Some(visit.clone()), ..self.changed(now) };
        if !self.parked {
            return ParkOutcome::Waits(
                Self { parked: true, ..visited }.with_event(OrderEvent::NeedsAttention),
            );
        }
        if last.is_some_and(|last| last.execution == visit.execution) {
            return ParkOutcome::Resumes(Self { parked: false, ..visited }.without_event());
        }
        // It waits already: the reconciler or another execution parked it.
        ParkOutcome::Waits(visited.without_event())
    }

    /// Decides what to do about an order that has not been settled for a while.
    pub fn reconcile(&self, execution: ExecutionStatus, now: Timestamp) -> Reconciliation {
        if self.settled || now < self.check_at {
            return Reconciliation::Leave;
        }
        let pending = self.status == Status::Pending;
        match execution {
            ExecutionStatus::Running => Reconciliation::Leave,
            // Step Functions forgets an execution after 90 days. A parked order must not be started again because of that.
            ExecutionStatus::NotFound if self.parked => Reconciliation::Leave,
            ExecutionStatus::NotFound => Reconciliation::Start,
            ExecutionStatus::Succeeded if !pending => {
                let settled = Self { settled: true, parked: false, ..self.changed(now) };
                Reconciliation::Settle(settled.without_event())
            }
            ExecutionStatus::Succeeded | ExecutionStatus::Failed if self.parked => Reconciliation::Leave,
            ExecutionStatus::Succeeded | ExecutionStatus::Failed if self.attempt < MAX_EXECUTIONS => {
                let next = Self {
                    attempt: self.attempt + 1,
                    check_at: now.plus_seconds(GRACE_PERIOD),
                    ..self.changed(now)
                };
                Reconciliation::StartNext(next.without_event())
            }
            ExecutionStatus::Succeeded | ExecutionStatus::Failed => {
                let parked = Self { parked: true, visit: None, ..self.changed(now) };
                Reconciliation::Park(parked.with_event(OrderEvent::NeedsAttention))
            }
        }
    }

    fn changed(&self, now: Timestamp) -> Self {
        Self { updated_at: now, version: self.version + 1, ..self.clone() }
    }

    fn with_event(self, event: impl Fn(OrderSummary) -> OrderEvent) -> Decision {
        let event = self.event(event);
        Decision::Change(Box::new(OrderChange { order: self, event: Some(event) }))
    }

    fn without_event(self) -> Decision {
        Decision::Change(Box::new(OrderChange { order: self, event: None }))
    }

    fn event(&self, event: impl Fn(OrderSummary) -> OrderEvent) -> CloudEvent<OrderEvent> {
        let summary = OrderSummary {
            id: self.id,
            buyer_id: self.buyer_id,
            total: self.prices.as_ref().map(|prices| prices.total),
            reason: self.reason.and_then(Reason::name),
        };
        CloudEvent::new(self.id, self.version, self.updated_at, event(summary))
    }
}

#[cfg(test)]
mod tests {
    use events::{Quantity, Sku};
    use kernel::input::Fields;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_microsecond(1_700_000_000_000_000)
    }

    fn later() -> Timestamp {
        now().plus_seconds(60)
    }

    fn given_a_pending_order() -> Order {
        let body = br#"{"items": [{"sku": "tea", "quantity": 2}], "payment_method": "pm_card_visa"}"#;
        let draft = Draft::read(Fields::read(body).unwrap()).unwrap();
        Order::place(Uuid::from_u128(1), Uuid::from_u128(7), draft, now()).0
    }

    fn prices() -> Quote {
        let usd = |amount| serde_json::from_value(serde_json::json!({"amount": amount, "currency": "USD"}));
        let (sku, quantity) = (Sku::parse("tea").unwrap(), Quantity::new(2).unwrap());
        let line = PricedItem { sku, quantity, unit_price: usd(450).unwrap() };
        Quote { lines: vec![line], total: usd(900).unwrap() }
    }

    fn given_a_confirmed_order() -> Order {
        let order = given_a_pending_order();
        order.confirm(prices(), later()).unwrap().applied_to(&order)
    }

    fn given_an_aborted_order() -> Order {
        let order = given_a_pending_order();
        order.abort(Reason::PaymentDeclined, Some(prices()), later()).unwrap().applied_to(&order)
    }

    fn given_a_cancelled_order() -> Order {
        let order = given_a_pending_order();
        order.cancel(later()).unwrap().applied_to(&order)
    }

    fn given_a_parked_order() -> Order {
        let order = given_a_confirmed_order();
        let ParkOutcome::Waits(decision) = order.park(&visit(1, "first"), later()) else {
            panic!("it waits")
        };
        decision.applied_to(&order)
    }

    fn visit(execution: u32, entry: &str) -> Visit {
        Visit { execution: execution.to_string(), entry: entry.to_owned() }
    }

    fn published(decision: Decision) -> OrderEvent {
        let Decision::Change(changed) = decision else { panic!("a change") };
        changed.event.unwrap().payload
    }

    #[test]
    fn placing_publishes_the_buyer_and_no_total() {
        let order = given_a_pending_order();
        let (_, event) = Order::place(order.id, order.buyer_id, order.draft.clone(), now());
        assert_eq!((event.subject, event.sequence), (order.id, 1));
        let summary = OrderSummary { id: order.id, buyer_id: order.buyer_id, total: None, reason: None };
        assert_eq!(event.payload, OrderEvent::Placed(summary));
    }

    #[test]
    fn confirming_stores_the_prices_and_publishes_the_total() {
        let order = given_a_pending_order();
        let decision = order.confirm(prices(), later()).unwrap();
        let confirmed = decision.clone().applied_to(&order);
        assert_eq!((confirmed.status, confirmed.version), (Status::Confirmed, 2));
        assert_eq!(confirmed.prices, Some(prices()));
        assert!(!confirmed.settled, "the money is only held");
        let OrderEvent::Confirmed(summary) = published(decision) else { panic!("order.confirmed") };
        assert_eq!(summary.total, Some(prices().total));
    }

    #[test]
    fn the_first_of_a_confirmation_and_an_abort_wins() {
        let confirmed = given_a_confirmed_order();
        assert_eq!(confirmed.abort(Reason::OutOfStock, None, later()), Err(Refusal::AlreadyConfirmed));
        assert_eq!(confirmed.may_proceed(), Err(Refusal::AlreadyConfirmed));
        let aborted = given_an_aborted_order();
        assert_eq!(aborted.confirm(prices(), later()), Err(Refusal::Cancelled));
        assert_eq!(aborted.may_proceed(), Err(Refusal::Cancelled));
        assert_eq!(aborted.visible_status(), Status::Pending, "until it is compensated");
    }

    #[test]
    fn the_first_of_a_confirmation_and_a_cancellation_wins() {
        assert_eq!(given_a_confirmed_order().cancel(later()), Err(TooLate(Status::Confirmed)));
        assert_eq!(given_an_aborted_order().cancel(later()), Err(TooLate(Status::Pending)));
        assert_eq!(given_a_cancelled_order().confirm(prices(), later()), Err(Refusal::Cancelled));
    }

    #[test]
    fn repeating_a_decision_changes_nothing() {
        assert_eq!(given_a_confirmed_order().confirm(prices(), later()), Ok(Decision::AlreadyMade));
        let aborted = given_an_aborted_order();
        assert_eq!(aborted.abort(Reason::ServiceUnavailable, None, later()), Ok(Decision::AlreadyMade));
        assert_eq!(given_a_cancelled_order().cancel(later()), Ok(Decision::AlreadyMade));
        let rejected = aborted.reject(later()).unwrap().applied_to(&aborted);
        assert_eq!(rejected.reject(later()), Ok(Decision::AlreadyMade));
    }

    #[test]
    fn rejecting_settles_and_publishes_the_first_reason() {
        let order = given_an_aborted_order();
        let decision = order.reject(later()).unwrap();
        let rejected = decision.clone().applied_to(&order);
        assert_eq!((rejected.status, rejected.settled), (Status::Rejected, true));
        let OrderEvent::Rejected(summary) = published(decision) else { panic!("order.rejected") };
        assert_eq!(summary.reason.as_deref(), Some("payment_declined"));
        assert_eq!(summary.total, Some(prices().total));
    }

    #[test]
    fn a_cancelled_order_is_settled_as_cancelled_without_another_event() {
        let order = given_a_cancelled_order();
        assert_eq!(order.reason, Some(Reason::CancelledByUser));
        let Decision::Change(changed) = order.reject(later()).unwrap() else { panic!("it settles") };
        assert_eq!((changed.order.status, changed.order.settled), (Status::Cancelled, true));
        assert_eq!(changed.event, None);
    }

    #[test]
    fn an_order_that_was_not_aborted_cannot_be_rejected() {
        assert_eq!(given_a_pending_order().reject(later()), Err(Refusal::NeedsAttention));
        assert_eq!(given_a_confirmed_order().reject(later()), Err(Refusal::AlreadyConfirmed));
    }

    #[test]
    fn the_first_visit_parks_the_second_resumes_and_a_retry_of_either_changes_nothing() {
        let parked = given_a_parked_order();
        assert_eq!((parked.visible_status(), parked.status), (Status::NeedsAttention, Status::Confirmed));
        assert_eq!(parked.park(&visit(1, "first"), later()), ParkOutcome::Waits(Decision::AlreadyMade));
        assert_eq!(parked.cancel(later()), Err(TooLate(Status::NeedsAttention)));

        let ParkOutcome::Resumes(decision) = parked.park(&visit(1, "second"), later()) else {
            panic!("it resumes")
        };
        let resumed = decision.applied_to(&parked);
        assert_eq!(resumed.visible_status(), Status::Confirmed);
        assert_eq!(resumed.park(&visit(1, "second"), later()), ParkOutcome::Resumes(Decision::AlreadyMade));

        let ParkOutcome::Waits(decision) = resumed.park(&visit(1, "third"), later()) else {
            panic!("it waits")
        };
        assert!(matches!(published(decision), OrderEvent::NeedsAttention(_)));
    }

    #[test]
    fn another_execution_does_not_resume_a_parked_order() {
        let parked = given_a_parked_order();
        let ParkOutcome::Waits(decision) = parked.park(&visit(2, "first"), later()) else {
            panic!("it waits")
        };
        let Decision::Change(changed) = decision else { panic!("the visit is stored") };
        assert_eq!((changed.order.visible_status(), changed.event), (Status::NeedsAttention, None));
    }

    #[test]
    fn a_settled_order_is_not_parked() {
        let order = given_an_aborted_order();
        let rejected = order.reject(later()).unwrap().applied_to(&order);
        assert_eq!(rejected.park(&visit(1, "late"), later()), ParkOutcome::Resumes(Decision::AlreadyMade));
    }

    #[test]
    fn the_reconciler_starts_an_unstarted_execution_and_leaves_a_running_one() {
        let order = given_a_pending_order();
        assert_eq!(order.reconcile(ExecutionStatus::NotFound, later()), Reconciliation::Start);
        assert_eq!(order.reconcile(ExecutionStatus::NotFound, now().plus_seconds(29)), Reconciliation::Leave);
        assert_eq!(order.reconcile(ExecutionStatus::Running, later()), Reconciliation::Leave);
    }

    #[test]
    fn a_failed_execution_gets_two_successors_and_then_an_operator() {
        let mut order = given_a_pending_order();
        let mut now = later();
        for attempt in 2..=MAX_EXECUTIONS {
            let Reconciliation::StartNext(decision) = order.reconcile(ExecutionStatus::Failed, now) else {
                panic!("attempt {attempt}")
            };
            order = decision.applied_to(&order);
            assert_eq!(order.execution(), format!("{}-{attempt}", order.id));
            now = now.plus_seconds(60);
        }
        let Reconciliation::Park(decision) = order.reconcile(ExecutionStatus::Failed, now) else {
            panic!("parked")
        };
        order = decision.clone().applied_to(&order);
        assert_eq!(order.visible_status(), Status::NeedsAttention);
        assert!(matches!(published(decision), OrderEvent::NeedsAttention(_)));
        assert_eq!(order.reconcile(ExecutionStatus::Failed, now), Reconciliation::Leave);
        assert_eq!(
            order.reconcile(ExecutionStatus::NotFound, now),
            Reconciliation::Leave,
            "even if the execution is forgotten"
        );
    }

    #[test]
    fn an_order_whose_execution_succeeded_is_settled_even_if_it_was_parked() {
        for order in [given_a_confirmed_order(), given_a_parked_order()] {
            let Reconciliation::Settle(decision) = order.reconcile(ExecutionStatus::Succeeded, later())
            else {
                panic!("settled")
            };
            let settled = decision.applied_to(&order);
            assert_eq!((settled.visible_status(), settled.settled), (Status::Confirmed, true));
            assert_eq!(settled.reconcile(ExecutionStatus::Failed, later()), Reconciliation::Leave);
        }
    }

    #[test]
    fn a_refusal_becomes_its_reason_and_any_other_error_service_unavailable() {
        let reason = |name| Reason::of_error(Some(name)).name().unwrap();
        assert_eq!(reason("User.NotFound"), "user_not_found");
        assert_eq!(reason("Inventory.OutOfStock"), "out_of_stock");
        assert_eq!(reason("Payment.Declined"), "payment_declined");
        assert_eq!(reason("States.Timeout"), "service_unavailable");
    }
}
