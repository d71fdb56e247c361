//! A model of the order saga. In every order in which the steps can happen, the saga keeps its invariants.
//!
//! The model checker `stateright` visits every state that a few orders can reach. The functions' own code decides in these
//! states: [`orders::order`], [`inventory::reservation`], [`payments::payment`] and [`payments::sandbox`]. Which step follows
//! which is read from `infra/order-saga.asl.json`. The model adds what happens in between:
//!
//! - An invocation is split at its reads and writes, and anything may happen between them. It may be cut off. It may also
//!   exceed the state machine's time-out and finish its work late.
//! - After any such fault the state machine retries, or gives up and continues as its `Catch` says.
//! - Any execution may be stopped at any point. Any execution that has ended may be redriven, even beside a newer one. The
//!   reconciler may run at any time, and anything may happen between its reads and writes too.
//! - The buyer may cancel, and a webhook of the provider may arrive, at any time.
//!
//! [`Budget`] sets the maximum number of each. The model proves nothing beyond these limits, but explores everything within them. [`invariants`] must hold in every state. [`milestones`] must be reached, so that no invariant holds
//! only because the model never reaches a state that could violate it. A protocol with a [`Mistake`] must violate an
//! invariant.
//!
//! The model leaves out:
//!
//! - Time. A pause is over whenever another action happens. The reconciler's half minute and the hours of an execution are not
//!   counted, and a tombstone never expires.
//! - Failures that end an invocation just as a cut-off does: a throttled table, a provider that does not answer, too many
//!   retries of a decision.
//! - What does not affect the saga: events, logs, prices that an administrator changes, the buyer's profile (`User.NotFound`
//!   has the same effect as every refusal before the pivot).
//! - The state machine's expressions. [`Saga::call`] repeats where a step's arguments come from. The system tests run the real
//!   expressions.
//! - Stripe. The provider of the model is the sandbox, whose every request is one conditional write.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher},
    ops::Deref,
    sync::{Arc, Mutex},
    time::Instant,
};

use inventory::{
    reservation::{self, Reservation, Transition},
    stock::{Listing, StockItem},
};
use kernel::{clock::Timestamp, input::Fields, saga::Refusal};
use orders::{
    draft::Draft,
    order::{Decision, Order, ParkOutcome, Quote, Reason, Reconciliation, Status, Visit},
};
use payments::{
    payment::{self, Command, IntentStatus, Payment, PaymentRecord, Prepared, ProviderName, Purchase},
    sandbox::{self, Intent},
};
use serde::Deserialize;
use serde_json::{Value, json};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Path, Property};
use uuid::Uuid;

const BUYER: Uuid = Uuid::from_u128(7);
const NOW: i64 = 1_700_000_000;

/// The error of a step that failed and may succeed if it is retried.
const TRANSIENT: &str = "Transient";
/// The error of a step for which the state machine no longer waits.
const TIME_OUT: &str = "States.Timeout";
/// The error of a step whose invocation was cut off.
const CUT_OFF: &str = "Lambda.Unknown";

fn now() -> Timestamp {
    Timestamp::from_microsecond(NOW * 1_000_000)
}

/// A value that is shared between states and hashed once.
struct Hashed<T>(Arc<(u64, T)>);

impl<T: Hash> Hashed<T> {
    fn new(value: T) -> Self {
        Self(Arc::new((BuildHasherDefault::<DefaultHasher>::new().hash_one(&value), value)))
    }
}

impl<T> Clone for Hashed<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Hashed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T: PartialEq> PartialEq for Hashed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0 && **self == **other
    }
}

impl<T: Eq> Eq for Hashed<T> {}

impl<T> Hash for Hashed<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.0.hash(state);
    }
}

impl<T: fmt::Debug> fmt::Debug for Hashed<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

// The state machine, as it is defined.

/// The name of a state, or of an error.
type Name = &'static str;

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase", bound(deserialize = "'de: 'static"))]
struct Machine {
    start_at: Name,
    states: BTreeMap<Name, Step>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase", bound(deserialize = "'de: 'static"))]
struct Step {
    arguments: Arguments,
    retry: Vec<Retrier>,
    #[serde(default)]
    catch: Vec<Catcher>,
    output: Value,
    next: Option<Name>,
    #[serde(default)]
    end: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Arguments {
    function_name: Function,
}

/// The functions, by the placeholders in the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
enum Function {
    #[serde(rename = "${OrdersValidateUser}")]
    ValidateUser,
    #[serde(rename = "${InventoryReserve}")]
    Reserve,
    #[serde(rename = "${PaymentsAuthorize}")]
    Authorize,
    #[serde(rename = "${OrdersConfirm}")]
    Confirm,
    #[serde(rename = "${PaymentsCapture}")]
    Capture,
    #[serde(rename = "${InventoryCommit}")]
    Commit,
    #[serde(rename = "${OrdersAbort}")]
    Abort,
    #[serde(rename = "${PaymentsCancel}")]
    CancelPayment,
    #[serde(rename = "${InventoryRelease}")]
    Release,
    #[serde(rename = "${OrdersReject}")]
    Reject,
    #[serde(rename = "${OrdersPark}")]
    Park,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase", bound(deserialize = "'de: 'static"))]
struct Retrier {
    error_equals: Vec<Name>,
    max_attempts: u32,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase", bound(deserialize = "'de: 'static"))]
struct Catcher {
    error_equals: Vec<Name>,
    output: String,
    next: Name,
}

fn is_among(errors: &[Name], error: Name) -> bool {
    errors.iter().any(|name| [error, "States.ALL"].contains(name))
}

impl Machine {
    fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/order-saga.asl.json");
        let text = std::fs::read_to_string(path).expect(path);
        let machine: Self = serde_json::from_str(text.leak()).expect(path);
        for (name, step) in &machine.states {
            assert!(step.next.is_some() != step.end, "{name} must have either a next state or an end");
        }
        machine
    }
}

impl Step {
    fn may_retry(&self, error: Name) -> bool {
        let retrier = self.retry.iter().find(|retrier| is_among(&retrier.error_equals, error));
        retrier.is_some_and(|retrier| retrier.max_attempts > 0)
    }

    fn catcher(&self, error: Name) -> Option<&Catcher> {
        self.catch.iter().find(|catcher| is_among(&catcher.error_equals, error))
    }

    /// Whether later states see the function's answer.
    fn keeps_the_answer(&self) -> bool {
        self.output.as_str().is_some_and(|output| output.contains("$states.result.Payload"))
    }
}

impl Catcher {
    /// Whether later states see the error, as the cause of the order's failure.
    fn notes_the_error(&self) -> bool {
        self.output.contains("\"error\": $states.errorOutput.Error")
    }
}

// The states of the model.

/// A state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    stock: Hashed<Vec<StockItem>>,
    sagas: Vec<Saga>,
    left: Budget,
}

/// The remaining number of each optional action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Budget {
    /// An invocation exceeds its time-out, or is cut off.
    faults: u8,
    /// An execution is stopped.
    stops: u8,
    /// An execution is redriven.
    redrives: u8,
    /// The buyer cancels an order.
    cancels: u8,
    /// The reconciler handles an order whose latest execution is running.
    early_runs: u8,
    /// A webhook arrives.
    webhooks: u8,
}

/// An order with everything that belongs to it: its records in the three tables and at the provider, its executions, and the
/// invocations in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Saga {
    order: Hashed<Order>,
    reservation: Option<Hashed<Reservation>>,
    payment: Hashed<PaymentRecord>,
    intent: Option<Hashed<Intent>>,
    /// In the order of the attempts.
    executions: Vec<Execution>,
    /// Sorted by their hashes.
    invocations: Vec<Hashed<Invocation>>,
    /// What has happened although it never should.
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Execution {
    at: At,
    /// The prices that the state machine knows, from the reservation.
    prices: Option<Hashed<Quote>>,
    /// The error that ended the forward steps.
    error: Option<Name>,
    /// The number of times that it has left the order to an operator.
    parks: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// In a state, waiting for an invocation.
    State(Name),
    /// It has succeeded.
    Succeeded,
    /// It has failed in a state, or was stopped there.
    Ended(Name),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Invocation {
    /// The index of the execution that waits for it. `None` if none does: it has timed out, or the saga did not start it.
    awaited_by: Option<usize>,
    call: Call,
    memory: Memory,
}

/// What a function is called to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Call {
    ValidateUser,
    Reserve,
    Authorize(Purchase),
    Confirm(Quote),
    Capture,
    Commit,
    Abort(Option<Name>, Option<Quote>),
    CancelPayment,
    Release,
    Reject,
    Park(Visit),
    CancelOrder,
    Reconcile,
    Webhook,
}

/// What an invocation has read and decided so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Memory {
    Nothing,
    /// The order to write, and the answer after that.
    Change(Hashed<Order>, Result<(), Name>),
    /// The reservation. The stock has not been read yet.
    Reservation(Option<Hashed<Reservation>>),
    /// Why the order cannot be reserved. The reservation did not exist, and has to be read again.
    Refusal(Refusal),
    /// The change to write, and the prices to answer after that.
    Transition(Hashed<Transition>, Option<Quote>),
    /// The payment, and the answer of the provider since it was read.
    Payment(Hashed<PaymentRecord>, Option<IntentStatus>),
    /// The order. The status of its execution has not been read yet.
    Order(Hashed<Order>),
    /// The order to write, and whether to start an execution after that.
    Reconciled(Hashed<Order>, bool),
    /// The attempt to start.
    Start(u32),
}

/// The result of a step of an invocation.
enum Progress {
    Continues(Memory),
    Ends(Result<Option<Quote>, Name>),
}

/// What can happen to the order at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// An invocation takes its next step.
    Step(usize, usize),
    /// The state machine stops waiting for an invocation, which continues.
    TimeOut(usize, usize, Reaction),
    /// An invocation is cut off.
    CutOff(usize, usize, Reaction),
    /// Someone stops an execution.
    Stop(usize, usize),
    /// Someone redrives an execution that has ended.
    Redrive(usize, usize),
    /// The buyer cancels the order.
    Cancel(usize),
    /// The reconciler handles the order.
    Reconcile(usize),
    /// A webhook arrives.
    Webhook(usize),
}

/// How the state machine reacts to a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Retry,
    /// As if the retries were used up.
    GiveUp,
}

// The transitions of the model.

/// A mistake that the protocol avoids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// The saga compensates before it has decided that the order will not be confirmed.
    CompensatesBeforeDeciding,
    /// Releasing a reservation leaves no tombstone, whether there was one or not.
    ReleasesWithoutTombstone,
    /// An order is written even if it has changed since it was read.
    WritesUnconditionally,
    /// If the order turns out to be confirmed, the saga treats that like any failure of the abort, and does not continue
    /// forward.
    IgnoresThePivot,
}

struct Protocol {
    machine: Machine,
    mistake: Option<Mistake>,
    /// The stock of the only item. Each order contains one of it.
    on_hand: u64,
    /// The payment method of each order.
    cards: Vec<&'static str>,
    budget: Budget,
    /// The names of the milestones that must be reached.
    reaches: &'static [&'static str],
    /// The hashes of states from which everything is known to settle.
    settling: Mutex<HashSet<u64>>,
}

impl Protocol {
    fn new(on_hand: u64, cards: &[&'static str], budget: Budget, reaches: &'static [&'static str]) -> Self {
        let (machine, cards) = (Machine::load(), cards.to_vec());
        Self { machine, mistake: None, on_hand, cards, budget, reaches, settling: Mutex::default() }
    }

    fn with(mut self, mistake: Mistake) -> Self {
        self.mistake = Some(mistake);
        for catchers in self.machine.states.values_mut().map(|step| &mut step.catch) {
            match mistake {
                Mistake::CompensatesBeforeDeciding => {
                    for catcher in catchers.iter_mut().filter(|catcher| catcher.next == "AbortOrder") {
                        catcher.next = "CancelPayment";
                    }
                }
                Mistake::IgnoresThePivot => catchers.retain(|catcher| catcher.next != "CapturePayment"),
                Mistake::ReleasesWithoutTombstone | Mistake::WritesUnconditionally => {}
            }
        }
        self
    }

    fn step_of(&self, state: Name) -> &Step {
        &self.machine.states[state]
    }

    /// Takes the next step of an invocation.
    fn step(&self, stock: &mut Hashed<Vec<StockItem>>, saga: &mut Saga, invocation: &Invocation) -> Progress {
        let Invocation { call, memory, .. } = invocation;
        match call {
            Call::ValidateUser => {
                Progress::Ends(saga.order.may_proceed().map(|()| None).map_err(Refusal::name))
            }
            Call::Confirm(_) | Call::Abort(..) | Call::Reject | Call::Park(_) | Call::CancelOrder => {
                self.decide(saga, call, memory)
            }
            Call::Reserve | Call::Commit | Call::Release => self.move_items(stock, saga, call, memory),
            Call::Authorize(purchase) => pay(saga, &Command::Authorize(purchase.clone()), memory),
            Call::Capture => pay(saga, &Command::Capture, memory),
            Call::CancelPayment => pay(saga, &Command::Cancel, memory),
            Call::Webhook => pay(saga, &Command::Synchronize, memory),
            Call::Reconcile => self.reconcile(saga, memory),
        }
    }

    /// Like `orders::store::Orders::decide`.
    fn decide(&self, saga: &mut Saga, call: &Call, memory: &Memory) -> Progress {
        if let Memory::Change(changed, answer) = memory {
            let written = self.replace(saga, changed);
            return if written {
                Progress::Ends(answer.map(|()| None))
            } else {
                Progress::Continues(Memory::Nothing)
            };
        }
        let order = &saga.order;
        let decided = match call {
            Call::Confirm(prices) => order.confirm(prices.clone(), now()).map_err(Refusal::name),
            Call::Abort(error, prices) => {
                order.abort(Reason::of_error(*error), prices.clone(), now()).map_err(Refusal::name)
            }
            Call::Reject => order.reject(now()).map_err(Refusal::name),
            Call::CancelOrder => order.cancel(now()).map_err(|_| "too late"),
            Call::Park(visit) => Ok(match order.park(visit, now()) {
                ParkOutcome::Waits(decision) | ParkOutcome::Resumes(decision) => decision,
            }),
            _ => unreachable!("{call:?}"),
        };
        let answer = |order: &Order| match call {
            Call::Park(_) if order.parked => Err(Refusal::NeedsAttention.name()),
            _ => Ok(()),
        };
        match decided {
            Ok(Decision::AlreadyMade) => Progress::Ends(answer(order).map(|()| None)),
            Ok(Decision::Change(changed)) => {
                let answer = answer(&changed.order);
                Progress::Continues(Memory::Change(Hashed::new(changed.order), answer))
            }
            Err(error) => Progress::Ends(Err(error)),
        }
    }

    /// Replaces the previous version of an order. Returns false if that is no longer the latest.
    fn replace(&self, saga: &mut Saga, changed: &Hashed<Order>) -> bool {
        let latest = &saga.order;
        if latest.version + 1 != changed.version && self.mistake != Some(Mistake::WritesUnconditionally) {
            return false;
        }
        let decided = latest.status != Status::Pending && changed.status != latest.status;
        let undone = latest.reason.is_some() && changed.reason != latest.reason;
        if decided || undone || latest.settled && !changed.settled {
            saga.broken = Some("a decision was changed");
        }
        saga.order = changed.clone();
        true
    }

    /// Like `inventory::tasks::decide_and_write`.
    fn move_items(
        &self,
        stock: &mut Hashed<Vec<StockItem>>,
        saga: &mut Saga,
        call: &Call,
        memory: &Memory,
    ) -> Progress {
        let (promise, transition) = match (call, memory) {
            (_, Memory::Transition(transition, prices)) => {
                let existing = saga.reservation.as_deref();
                let Some(moved) = transition.apply(existing, stock) else {
                    return Progress::Continues(Memory::Nothing);
                };
                *stock = Hashed::new(moved);
                let reservation = transition.reservation.clone();
                let leaves_nothing =
                    *call == Call::Release && self.mistake == Some(Mistake::ReleasesWithoutTombstone);
                saga.reservation = (!leaves_nothing).then(|| Hashed::new(reservation));
                return Progress::Ends(Ok(prices.clone()));
            }
            (Call::Reserve, Memory::Reservation(existing)) => {
                match Reservation::reserve(existing.as_deref(), stock, &saga.basket()) {
                    Ok((promise, transition)) => (Some(promise), transition),
                    Err(refusal) if existing.is_none() => {
                        return Progress::Continues(Memory::Refusal(refusal));
                    }
                    Err(refusal) => return Progress::Ends(Err(refusal.name())),
                }
            }
            (Call::Reserve, Memory::Refusal(refusal)) => match saga.reservation.as_deref() {
                None => return Progress::Ends(Err(refusal.name())),
                existing => match Reservation::reserve(existing, stock, &saga.basket()) {
                    Ok((promise, transition)) => (Some(promise), transition),
                    Err(refusal) => return Progress::Ends(Err(refusal.name())),
                },
            },
            // A batch read is not a snapshot.
            (Call::Reserve, _) => return Progress::Continues(Memory::Reservation(saga.reservation.clone())),
            (Call::Commit, _) => match Reservation::commit(saga.reservation.as_deref()) {
                Ok(transition) => (None, transition),
                Err(_) => return Progress::Ends(Err(TRANSIENT)),
            },
            _ => (None, Reservation::release(saga.reservation.as_deref(), saga.order.id, now())),
        };
        let prices = promise.map(|promise| Quote { lines: promise.lines, total: promise.total });
        match transition {
            None => Progress::Ends(Ok(prices)),
            Some(transition) => Progress::Continues(Memory::Transition(Hashed::new(transition), prices)),
        }
    }

    /// Like `orders::reconciler::reconcile_due`.
    fn reconcile(&self, saga: &mut Saga, memory: &Memory) -> Progress {
        match memory {
            Memory::Order(order) => match saga.reconciliation(order) {
                Reconciliation::Leave => Progress::Ends(Ok(None)),
                Reconciliation::Start => Progress::Continues(Memory::Start(order.attempt)),
                Reconciliation::StartNext(decision) => {
                    Progress::Continues(Memory::Reconciled(Hashed::new(decision.applied_to(order)), true))
                }
                Reconciliation::Settle(decision) | Reconciliation::Park(decision) => {
                    Progress::Continues(Memory::Reconciled(Hashed::new(decision.applied_to(order)), false))
                }
            },
            Memory::Reconciled(changed, starts) if self.replace(saga, changed) && *starts => {
                Progress::Continues(Memory::Start(changed.attempt))
            }
            Memory::Start(attempt) => {
                // No two executions have the same name.
                if saga.executions.len() + 1 == *attempt as usize {
                    self.start(saga);
                }
                Progress::Ends(Ok(None))
            }
            _ => Progress::Ends(Ok(None)),
        }
    }

    /// Starts the next attempt.
    fn start(&self, saga: &mut Saga) {
        let at = At::State(self.machine.start_at);
        saga.executions.push(Execution { at, prices: None, error: None, parks: 0 });
        self.enter(saga, saga.executions.len() - 1, self.machine.start_at);
    }

    /// An execution enters a state.
    fn enter(&self, saga: &mut Saga, index: usize, state: Name) {
        let function = self.step_of(state).arguments.function_name;
        let execution = &mut saga.executions[index];
        execution.at = At::State(state);
        execution.parks += u8::from(function == Function::Park);
        saga.invoke(function, index);
    }

    /// Continues an execution after the invocation that it waited for.
    fn advance(
        &self,
        saga: &mut Saga,
        index: usize,
        answer: Result<Option<Quote>, Name>,
        reaction: Reaction,
    ) {
        let execution = &mut saga.executions[index];
        let At::State(state) = execution.at else { unreachable!("{execution:?} does not wait") };
        let step = self.step_of(state);
        let next = match answer {
            Ok(prices) => {
                if step.keeps_the_answer() && prices.is_some() {
                    execution.prices = prices.map(Hashed::new);
                }
                step.next.ok_or(At::Succeeded)
            }
            Err(error) if reaction == Reaction::Retry && step.may_retry(error) => {
                return saga.invoke(step.arguments.function_name, index);
            }
            Err(error) => {
                let catcher = step.catcher(error);
                if catcher.is_some_and(Catcher::notes_the_error) {
                    execution.error = Some(error);
                }
                catcher.map(|catcher| catcher.next).ok_or(At::Ended(state))
            }
        };
        match next {
            Ok(state) => self.enter(saga, index, state),
            Err(at) => execution.at = at,
        }
    }

    /// Whether all orders settle once nothing goes wrong any more and an operator redrives the latest execution of every order
    /// that waits for one.
    fn settles(&self, world: &World) -> bool {
        let mut world = world.clone();
        let mut visited = Vec::new();
        loop {
            // The rest of the budget does not affect what happens by itself.
            world.left = Budget { redrives: 1, early_runs: 1, ..Budget::default() };
            let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(&world);
            if self.settling.lock().unwrap().contains(&hash) {
                break;
            }
            visited.push(hash);
            if visited.len() > 300 {
                return false;
            }
            let parked = || {
                let order = world.sagas.iter().position(|saga| !saga.order.settled)?;
                Some(Action::Redrive(order, world.sagas[order].executions.len() - 1))
            };
            let Some(action) = world.next_unprompted().or_else(parked) else {
                if world.sagas.iter().all(Saga::agrees) {
                    break;
                }
                return false;
            };
            let Some(next) = self.next_state(&world, action) else { return false };
            world = next;
        }
        self.settling.lock().unwrap().extend(visited);
        true
    }

    /// The possible reactions of the state machine to an error of an invocation.
    fn reactions_to(
        &self,
        saga: &Saga,
        invocation: &Invocation,
        error: Name,
    ) -> impl Iterator<Item = Reaction> + use<> {
        let state = invocation.awaited_by.map(|index| saga.executions[index].at);
        let retries = match state {
            Some(At::State(state)) => self.step_of(state).may_retry(error),
            _ => false,
        };
        [Reaction::GiveUp].into_iter().chain(retries.then_some(Reaction::Retry))
    }
}

/// Like `payments::cashier::Cashier::carry_out`: one read, write or request, and the decision after it.
fn pay(saga: &mut Saga, command: &Command, memory: &Memory) -> Progress {
    let (record, reply) = match memory {
        Memory::Payment(record, reply) => match payment::next_action(command, record, reply.as_ref()) {
            payment::Action::Begin(purchase) => {
                if *saga.payment == PaymentRecord::Absent {
                    let prepared = Prepared::Intent(format!("sandbox_{}", purchase.order_id));
                    let payment = Payment::begin(purchase, ProviderName::Sandbox, prepared, now());
                    saga.payment = Hashed::new(PaymentRecord::Payment(payment));
                }
                (saga.payment.clone(), None)
            }
            payment::Action::Ask(request) => {
                let PaymentRecord::Payment(payment) = &**record else {
                    unreachable!("a request without a payment")
                };
                let (amount, method) = (payment.amount, &payment.payment_method);
                if let Some(intent) = sandbox::carry_out(request, saga.intent.as_deref(), amount, method) {
                    saga.intent = Some(Hashed::new(intent));
                }
                let reply = saga.intent.as_ref().map_or(IntentStatus::Open, |intent| intent.status.clone());
                (record.clone(), Some(reply))
            }
            payment::Action::Write(payment) => match &*saga.payment {
                PaymentRecord::Payment(current) if current.version + 1 == payment.version => {
                    saga.payment = Hashed::new(PaymentRecord::Payment(*payment));
                    (saga.payment.clone(), None)
                }
                _ => return Progress::Continues(Memory::Nothing),
            },
            payment::Action::WriteTombstone => {
                if *saga.payment == PaymentRecord::Absent {
                    saga.payment = Hashed::new(PaymentRecord::Tombstone);
                }
                (saga.payment.clone(), None)
            }
            next => unreachable!("{next:?} ends the invocation"),
        },
        _ => (saga.payment.clone(), None),
    };
    match payment::next_action(command, &record, reply.as_ref()) {
        payment::Action::Done => Progress::Ends(Ok(None)),
        payment::Action::Refuse(refusal) => Progress::Ends(Err(refusal.name())),
        payment::Action::Fail(_) => Progress::Ends(Err(TRANSIENT)),
        _ => Progress::Continues(Memory::Payment(record, reply)),
    }
}

impl World {
    /// The next action that needs no fault, operator or buyer, if there is one.
    fn next_unprompted(&self) -> Option<Action> {
        self.sagas.iter().enumerate().find_map(|(order, saga)| {
            if saga.invocations.is_empty() {
                saga.needs_reconciling().then_some(Action::Reconcile(order))
            } else {
                Some(Action::Step(order, 0))
            }
        })
    }
}

impl Saga {
    fn place(id: u128, card: &str) -> Self {
        let body = json!({"items": [{"sku": "TEA", "quantity": 1}], "payment_method": card});
        let draft = Draft::read(Fields::read(body.to_string().as_bytes()).unwrap()).unwrap();
        let (order, _) = Order::place(Uuid::from_u128(id), BUYER, draft, now());
        Self {
            order: Hashed::new(order),
            reservation: None,
            payment: Hashed::new(PaymentRecord::Absent),
            intent: None,
            executions: Vec::new(),
            invocations: Vec::new(),
            broken: None,
        }
    }

    /// The order as the inventory gets it.
    fn basket(&self) -> reservation::ReserveInput {
        let items = self.order.draft.items.as_slice().to_vec().try_into().unwrap();
        reservation::ReserveInput {
            order_id: self.order.id,
            items,
            expected_total: self.order.draft.expected_total,
        }
    }

    /// The call of a function by an execution.
    fn call(&self, function: Function, index: usize) -> Call {
        let Execution { prices, error, parks, .. } = &self.executions[index];
        let prices = || prices.as_deref().cloned();
        match function {
            Function::ValidateUser => Call::ValidateUser,
            Function::Reserve => Call::Reserve,
            Function::Authorize => {
                let method = serde_json::to_value(&self.order.draft.payment_method).unwrap();
                Call::Authorize(Purchase {
                    order_id: self.order.id,
                    buyer_id: self.order.buyer_id,
                    amount: prices().expect("the price of what is reserved").total,
                    payment_method: method.as_str().unwrap().to_owned(),
                })
            }
            Function::Confirm => Call::Confirm(prices().expect("the price of what is reserved")),
            Function::Capture => Call::Capture,
            Function::Commit => Call::Commit,
            Function::Abort => Call::Abort(*error, prices()),
            Function::CancelPayment => Call::CancelPayment,
            Function::Release => Call::Release,
            Function::Reject => Call::Reject,
            // The number of entries stands for the time of the entry.
            Function::Park => {
                Call::Park(Visit { execution: (index + 1).to_string(), entry: parks.to_string() })
            }
        }
    }

    fn invoke(&mut self, function: Function, index: usize) {
        let call = self.call(function, index);
        self.add(Invocation { awaited_by: Some(index), call, memory: Memory::Nothing });
    }

    fn add(&mut self, invocation: Invocation) {
        let invocation = Hashed::new(invocation);
        // Sorted, so that states that differ only in this order are the same state.
        let index = self.invocations.partition_point(|other| other.0.0 < invocation.0.0);
        self.invocations.insert(index, invocation);
    }

    /// An execution no longer waits for its invocation.
    fn abandon(&mut self, index: usize) {
        let waits = |invocation: &Hashed<Invocation>| invocation.awaited_by == Some(index);
        let awaited = self.invocations.iter().position(waits).expect("the execution waits for an invocation");
        let Invocation { call, memory, .. } = Invocation::clone(&self.invocations.remove(awaited));
        self.add(Invocation { awaited_by: None, call, memory });
    }

    /// The reconciler's decision about an order that was read before, with the executions as they are now.
    fn reconciliation(&self, order: &Order) -> Reconciliation {
        let execution = match self.executions.get(order.attempt as usize - 1).map(|execution| execution.at) {
            None => kernel::saga::ExecutionStatus::NotFound,
            Some(At::State(_)) => kernel::saga::ExecutionStatus::Running,
            Some(At::Succeeded) => kernel::saga::ExecutionStatus::Succeeded,
            Some(At::Ended(_)) => kernel::saga::ExecutionStatus::Failed,
        };
        order.reconcile(execution, order.check_at)
    }

    fn needs_reconciling(&self) -> bool {
        self.reconciliation(&self.order) != Reconciliation::Leave
            && !self.invocations.iter().any(|invocation| invocation.call == Call::Reconcile)
    }

    fn is_at_rest(&self) -> bool {
        self.invocations.is_empty() && !self.needs_reconciling()
    }

    fn holds_money(&self) -> bool {
        let held = matches!(
            self.intent.as_ref().map(|intent| &intent.status),
            Some(IntentStatus::Held | IntentStatus::Captured)
        );
        held || self.is(payment::Status::Authorized) || self.is(payment::Status::Captured)
    }

    fn is(&self, status: payment::Status) -> bool {
        matches!(&*self.payment, PaymentRecord::Payment(payment) if payment.status == status)
    }

    fn has_taken_money(&self) -> bool {
        self.is(payment::Status::Captured)
            || self.intent.as_ref().is_some_and(|intent| intent.status == IntentStatus::Captured)
    }

    fn reservation(&self) -> Option<&reservation::Status> {
        self.reservation.as_ref().map(|reservation| &reservation.status)
    }

    fn has_items(&self) -> bool {
        matches!(self.reservation(), Some(reservation::Status::Held(_) | reservation::Status::Committed(_)))
    }

    /// Whether the three services agree about a settled order.
    fn agrees(&self) -> bool {
        let committed = matches!(self.reservation(), Some(reservation::Status::Committed(_)));
        let captured = self.is(payment::Status::Captured)
            && self.intent.as_ref().is_some_and(|intent| intent.status == IntentStatus::Captured);
        match self.order.status {
            Status::Confirmed => captured && committed,
            Status::Rejected | Status::Cancelled => !self.holds_money() && !self.has_items(),
            Status::Pending | Status::NeedsAttention => false,
        }
    }

    fn ends_as(&self, status: Status, reason: Option<Reason>) -> bool {
        self.is_at_rest() && self.order.settled && self.order.status == status && self.order.reason == reason
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    /// The orders have been placed. Either their executions were started, or the reconciler has to start them.
    fn init_states(&self) -> Vec<World> {
        let listing = json!({"name": "Tea", "unit_price": {"amount": 450, "currency": "USD"},
            "on_hand": self.on_hand});
        let listing = Listing::read(Fields::read(listing.to_string().as_bytes()).unwrap()).unwrap();
        let stock = vec![StockItem::list(events::Sku::parse("TEA").unwrap(), listing)];
        let placed = |(index, card): (usize, &&str)| Saga::place(index as u128 + 1, card);
        let sagas: Vec<Saga> = self.cards.iter().enumerate().map(placed).collect();
        let world = World { stock: Hashed::new(stock), sagas, left: self.budget };
        let mut started = world.clone();
        started.sagas.iter_mut().for_each(|saga| self.start(saga));
        vec![started, world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let left = &world.left;
        for (order, saga) in world.sagas.iter().enumerate() {
            for (index, invocation) in saga.invocations.iter().enumerate() {
                if index > 0 && saga.invocations[index - 1] == *invocation {
                    continue;
                }
                actions.push(Action::Step(order, index));
                if left.faults == 0 {
                    continue;
                }
                if invocation.awaited_by.is_some() {
                    let faults = self.reactions_to(saga, invocation, TIME_OUT);
                    actions.extend(faults.map(|reaction| Action::TimeOut(order, index, reaction)));
                }
                let faults = self.reactions_to(saga, invocation, CUT_OFF);
                // Retrying an invocation that has done nothing yet changes nothing.
                let unchanged = |reaction: &Reaction| {
                    *reaction == Reaction::Retry && invocation.memory == Memory::Nothing
                };
                let faults = faults.filter(|reaction| !unchanged(reaction));
                actions.extend(faults.map(|reaction| Action::CutOff(order, index, reaction)));
            }
            for (index, execution) in saga.executions.iter().enumerate() {
                match execution.at {
                    At::State(_) if left.stops > 0 => actions.push(Action::Stop(order, index)),
                    At::Ended(_) if left.redrives > 0 => actions.push(Action::Redrive(order, index)),
                    _ => {}
                }
            }
            if saga.needs_reconciling() || left.early_runs > 0 {
                actions.push(Action::Reconcile(order));
            }
            if left.cancels > 0 {
                actions.push(Action::Cancel(order));
            }
            if left.webhooks > 0 {
                actions.push(Action::Webhook(order));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        let World { stock, sagas, left } = &mut world;
        match action {
            Action::Step(order, index) => {
                let saga = &mut sagas[order];
                let invocation = saga.invocations.remove(index);
                match self.step(stock, saga, &invocation) {
                    Progress::Continues(memory) => {
                        let Invocation { awaited_by, call, .. } = Invocation::clone(&invocation);
                        saga.add(Invocation { awaited_by, call, memory });
                    }
                    Progress::Ends(answer) => {
                        if answer == Err(TRANSIENT) {
                            saga.broken = Some("a step failed by itself");
                        }
                        if let Some(index) = invocation.awaited_by {
                            self.advance(saga, index, answer, Reaction::GiveUp);
                        }
                    }
                }
            }
            Action::TimeOut(order, index, reaction) => {
                left.faults -= 1;
                let saga = &mut sagas[order];
                let execution = saga.invocations[index].awaited_by?;
                saga.abandon(execution);
                self.advance(saga, execution, Err(TIME_OUT), reaction);
            }
            Action::CutOff(order, index, reaction) => {
                left.faults -= 1;
                let saga = &mut sagas[order];
                let invocation = saga.invocations.remove(index);
                if let Some(index) = invocation.awaited_by {
                    self.advance(saga, index, Err(CUT_OFF), reaction);
                }
            }
            Action::Stop(order, index) => {
                left.stops -= 1;
                let saga = &mut sagas[order];
                let At::State(state) = saga.executions[index].at else { return None };
                saga.executions[index].at = At::Ended(state);
                saga.abandon(index);
            }
            Action::Redrive(order, index) => {
                left.redrives -= 1;
                let At::Ended(state) = sagas[order].executions[index].at else { return None };
                self.enter(&mut sagas[order], index, state);
            }
            Action::Cancel(order) => {
                left.cancels -= 1;
                let Progress::Continues(memory) =
                    self.decide(&mut sagas[order], &Call::CancelOrder, &Memory::Nothing)
                else {
                    return None;
                };
                sagas[order].add(Invocation { awaited_by: None, call: Call::CancelOrder, memory });
            }
            Action::Reconcile(order) => {
                let saga = &mut sagas[order];
                if !saga.needs_reconciling() {
                    left.early_runs -= 1;
                }
                if saga.order.settled {
                    return None;
                }
                let memory = Memory::Order(saga.order.clone());
                saga.add(Invocation { awaited_by: None, call: Call::Reconcile, memory });
            }
            Action::Webhook(order) => {
                left.webhooks -= 1;
                let saga = &mut sagas[order];
                let Progress::Continues(memory) = pay(saga, &Command::Synchronize, &Memory::Nothing) else {
                    return None;
                };
                saga.add(Invocation { awaited_by: None, call: Call::Webhook, memory });
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = invariants();
        properties.extend(milestones().into_iter().filter(|property| self.reaches.contains(&property.name)));
        properties
    }
}

const KEEPS: &str = "a confirmed order keeps its money and its items";
const STAYS: &str = "a decision is final, and no step fails by itself";
const SETTLES: &str = "once nothing goes wrong any more, every order settles";
const AGREE: &str = "at rest the three services agree about a settled order";

/// What must hold in every state.
fn invariants() -> Vec<Property<Protocol>> {
    vec![
        Property::always("the stock covers all reservations", |protocol, world: &World| {
            let states = || world.sagas.iter().filter_map(Saga::reservation);
            let held = states().filter(|state| matches!(state, reservation::Status::Held(_))).count();
            let gone = states().filter(|state| matches!(state, reservation::Status::Committed(_))).count();
            world.stock.iter().all(|item| {
                item.reserved == held as u64
                    && item.on_hand + gone as u64 == protocol.on_hand
                    && item.on_hand.checked_sub(item.reserved) == Some(item.available)
            })
        }),
        Property::always("only confirmed orders have their money captured", |_, world: &World| {
            let confirmed = |saga: &Saga| saga.order.status == Status::Confirmed;
            world.sagas.iter().all(|saga| confirmed(saga) || !saga.has_taken_money())
        }),
        Property::always(KEEPS, |_, world: &World| {
            let confirmed = |saga: &&Saga| saga.order.status == Status::Confirmed;
            world.sagas.iter().filter(confirmed).all(|saga| saga.holds_money() && saga.has_items())
        }),
        Property::always(STAYS, |_, world: &World| world.sagas.iter().all(|saga| saga.broken.is_none())),
        Property::always("at rest an order is settled or waits for an operator", |_, world: &World| {
            let ended = |saga: &Saga| saga.order.settled || saga.order.parked;
            world.sagas.iter().all(|saga| !saga.is_at_rest() || ended(saga))
        }),
        Property::always(AGREE, |_, world: &World| {
            let settled = |saga: &&Saga| saga.is_at_rest() && saga.order.settled;
            world.sagas.iter().filter(settled).all(Saga::agrees)
        }),
        Property::always("a settled order does not wait for an operator", |_, world: &World| {
            world.sagas.iter().all(|saga| !saga.order.settled || !saga.order.parked)
        }),
        Property::always("no order is out of stock if there is enough for all", |protocol, world: &World| {
            let refused = |saga: &Saga| saga.order.reason == Some(Reason::OutOfStock);
            world.sagas.len() as u64 > protocol.on_hand || !world.sagas.iter().any(refused)
        }),
        Property::always(
            "an order waits for an operator only after a fault or a stop",
            |protocol, world: &World| {
                let (left, given) = (&world.left, &protocol.budget);
                let wrong = left.faults < given.faults || left.stops < given.stops;
                wrong || !world.sagas.iter().any(|saga| saga.order.parked)
            },
        ),
        Property::always(SETTLES, Protocol::settles),
    ]
}

/// States that the model must reach.
fn milestones() -> Vec<Property<Protocol>> {
    fn some(world: &World, is: impl Fn(&Saga) -> bool) -> bool {
        world.sagas.iter().any(is)
    }
    vec![
        Property::sometimes("confirmed", |_, world: &World| {
            some(world, |saga| saga.ends_as(Status::Confirmed, None))
        }),
        Property::sometimes("declined", |_, world: &World| {
            some(world, |saga| saga.ends_as(Status::Rejected, Some(Reason::PaymentDeclined)))
        }),
        Property::sometimes("out of stock", |_, world: &World| {
            some(world, |saga| saga.ends_as(Status::Rejected, Some(Reason::OutOfStock)))
        }),
        Property::sometimes("given up", |_, world: &World| {
            some(world, |saga| saga.ends_as(Status::Rejected, Some(Reason::ServiceUnavailable)))
        }),
        Property::sometimes("cancelled", |_, world: &World| {
            some(world, |saga| saga.ends_as(Status::Cancelled, Some(Reason::CancelledByUser)))
        }),
        Property::sometimes("refunded", |_, world: &World| {
            some(world, |saga| saga.is(payment::Status::Refunded))
        }),
        Property::sometimes("parked", |_, world: &World| {
            some(world, |saga| saga.is_at_rest() && saga.order.parked && !saga.order.settled)
        }),
        Property::sometimes("settled after it was parked", |_, world: &World| {
            some(world, |saga| {
                let parked = saga.executions.iter().any(|execution| execution.parks > 1);
                parked && saga.is_at_rest() && saga.order.settled && !saga.order.parked
            })
        }),
        // The only execution has given up confirming and is about to abort the order.
        Property::sometimes("confirmed by a late invocation", |_, world: &World| {
            some(world, |saga| match saga.executions.as_slice() {
                [Execution { at: At::State("AbortOrder"), parks: 0, .. }] => {
                    saga.order.status == Status::Confirmed
                }
                _ => false,
            })
        }),
        Property::sometimes("confirmed while an older attempt is running", |_, world: &World| {
            some(world, |saga| match saga.executions.as_slice() {
                [older, Execution { at: At::Succeeded, .. }] => {
                    matches!(older.at, At::State(_)) && saga.order.status == Status::Confirmed
                }
                _ => false,
            })
        }),
        Property::sometimes("left to an operator after three attempts", |_, world: &World| {
            some(world, |saga| saga.executions.len() == 3 && saga.is_at_rest() && saga.order.parked)
        }),
    ]
}

const VISA: &str = "pm_card_visa";
const DECLINED: &str = "pm_card_chargeDeclined";

/// Explores every state. If an invariant is violated, panics with the shortest path to the violation.
fn explore(name: &str, protocol: Protocol) {
    let start = Instant::now();
    let checker = protocol.checker().spawn_bfs().join();
    println!(
        "model: {} states, {} transitions, {} deep, {:.1} s: {name}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    );
    let discoveries = checker.discoveries();
    for property in checker.model().properties() {
        match (property.expectation, discoveries.get(property.name)) {
            (Expectation::Sometimes, None) => panic!("{name}: never reached: {}", property.name),
            (Expectation::Always, Some(path)) => {
                panic!("{name}: violated: {}\n{}", property.name, describe(path))
            }
            _ => {}
        }
    }
}

/// The actions of a path, and the state at its end.
fn describe(path: &Path<World, Action>) -> String {
    let actions = path.clone().into_vec().into_iter().map(|(world, action)| match action {
        Some(
            Action::Step(order, index) | Action::TimeOut(order, index, _) | Action::CutOff(order, index, _),
        ) => format!("{action:?}: {:?}\n", world.sagas[order].invocations[index]),
        Some(action) => format!("{action:?}\n"),
        None => format!("{world:#?}\n"),
    });
    actions.collect()
}

/// Asserts that the protocol violates an invariant with a mistake, and holds it without.
fn assert_violates(invariant: &'static str, protocol: impl Fn() -> Protocol, mistake: Mistake) {
    let find = |protocol: Protocol| {
        let checker = protocol.checker().finish_when(HasDiscoveries::AnyOf([invariant].into())).spawn_bfs();
        checker.join().discovery(invariant)
    };
    let violation = find(protocol().with(mistake));
    let steps = violation.unwrap_or_else(|| panic!("{mistake:?} violates nothing")).into_actions().len();
    println!("model: {mistake:?} is found after {steps} steps: violated: {invariant}");
    assert!(find(protocol()).is_none(), "violated even without {mistake:?}");
}

#[test]
fn an_order_settles_despite_cut_off_and_late_invocations() {
    let budget = Budget { faults: 3, ..Budget::default() };
    let reaches = &["confirmed", "given up", "parked", "confirmed by a late invocation"];
    explore("three faults", Protocol::new(1, &[VISA], budget, reaches));
}

#[test]
fn an_order_settles_despite_cancellations_redrives_and_webhooks() {
    let budget = Budget { faults: 2, redrives: 1, cancels: 1, ..Budget::default() };
    let reaches = &["confirmed", "cancelled", "parked", "settled after it was parked"];
    explore("two faults, a cancellation, a redrive", Protocol::new(1, &[VISA], budget, reaches));
    let budget = Budget { faults: 1, cancels: 1, webhooks: 1, ..Budget::default() };
    let reaches = &["confirmed", "cancelled", "given up"];
    explore("a fault, a cancellation, a webhook", Protocol::new(1, &[VISA], budget, reaches));
}

#[test]
fn an_order_with_a_declined_card_is_undone_and_records_the_reason() {
    let budget = Budget { faults: 2, cancels: 1, ..Budget::default() };
    let reaches = &["declined", "cancelled", "given up", "parked"];
    explore("a declined card", Protocol::new(1, &[DECLINED], budget, reaches));
}

#[test]
fn concurrent_attempts_settle_an_order_like_a_single_attempt() {
    let budget = Budget { faults: 1, stops: 1, redrives: 1, ..Budget::default() };
    let reaches = &["confirmed", "given up", "confirmed while an older attempt is running"];
    explore("a fault, a stop, a redrive", Protocol::new(1, &[VISA], budget, reaches));
}

#[test]
fn concurrent_attempts_settle_an_order_even_if_the_buyer_cancels_it() {
    let budget = Budget { stops: 1, redrives: 1, cancels: 1, early_runs: 1, ..Budget::default() };
    let reaches = &["confirmed", "cancelled", "confirmed while an older attempt is running"];
    explore(
        "a stop, a redrive, a cancellation, an early run of the reconciler",
        Protocol::new(1, &[VISA], budget, reaches),
    );
}

#[test]
fn an_order_whose_every_attempt_is_stopped_waits_for_an_operator() {
    let budget = Budget { stops: 3, ..Budget::default() };
    let reaches = &["confirmed", "left to an operator after three attempts"];
    explore("three stops", Protocol::new(1, &[VISA], budget, reaches));
}

#[test]
fn at_most_one_of_two_orders_gets_the_last_item() {
    let budget = Budget { faults: 1, cancels: 1, ..Budget::default() };
    let reaches = &["confirmed", "out of stock", "cancelled"];
    explore("two orders", Protocol::new(1, &[VISA, VISA], budget, reaches));
    let budget = Budget { faults: 1, ..Budget::default() };
    let reaches = &["confirmed", "out of stock", "declined"];
    explore("two orders, a declined card", Protocol::new(1, &[VISA, DECLINED], budget, reaches));
}

#[test]
fn compensating_before_the_order_is_aborted_would_lose_to_a_late_confirmation() {
    let one_fault = || Protocol::new(1, &[VISA], Budget { faults: 1, ..Budget::default() }, &[]);
    assert_violates(KEEPS, one_fault, Mistake::CompensatesBeforeDeciding);
}

#[test]
fn releasing_without_a_tombstone_would_let_a_late_reservation_hold_items_forever() {
    let one_fault = || Protocol::new(1, &[VISA], Budget { faults: 1, ..Budget::default() }, &[]);
    assert_violates(AGREE, one_fault, Mistake::ReleasesWithoutTombstone);
}

#[test]
fn unconditional_writes_would_overturn_a_decision() {
    let cancelled = || Protocol::new(1, &[VISA], Budget { cancels: 1, ..Budget::default() }, &[]);
    assert_violates(STAYS, cancelled, Mistake::WritesUnconditionally);
}

#[test]
fn a_confirmed_order_that_could_only_be_compensated_would_never_settle() {
    let one_fault = || Protocol::new(1, &[VISA], Budget { faults: 1, ..Budget::default() }, &[]);
    assert_violates(SETTLES, one_fault, Mistake::IgnoresThePivot);
}
