//! The order saga's protocol, explored: in every order in which its steps can happen, it keeps its promises.
//!
//! The model checker `stateright` goes through every state that a few orders can come to. What decides in
//! these states is what decides in the functions: [`orders::order`], [`inventory::reservation`],
//! [`payments::payment`] and [`payments::sandbox`], and which step follows which is read from
//! `infra/order-saga.asl.json`. The model adds what lies between them:
//!
//! - An invocation is split at its reads and writes, and anything may happen in between. It may be cut off,
//!   or overtaken by the state machine's time-out and do the rest of its work late.
//! - The state machine tries again, or gives up and goes where its `Catch` says, after any such fault.
//! - An execution may be stopped anywhere, and whatever has ended may be redriven, an older attempt beside a
//!   newer one too. The reconciler looks at any time, its own steps as far apart as those of the others.
//! - The buyer cancels, and the provider's webhook is heard, at any time.
//!
//! How often each of these happens is bounded by [`Budget`]: nothing here says what one more would do. Within
//! these bounds the exploration is complete. [`promises`] are what has to hold in every state, [`sights`]
//! what has to be met on the way, so that nothing holds for want of a state that could break it. A protocol
//! with a [`Mistake`] is seen to break its promises.
//!
//! What the model leaves out:
//!
//! - time: a pause is over when something else wants to happen; the reconciler's half minute, the hours of an
//!   execution and the days of a tombstone are not counted. A tombstone never expires.
//! - failures that end an invocation as a cut-off does: a throttled table, a provider that does not answer,
//!   the bound on how often an invocation decides anew.
//! - what the saga does not go by: events, logs, prices that an administrator changes, the buyer's profile
//!   (`User.NotFound` goes the way of every refusal before the pivot).
//! - the state machine's expressions: where a step's arguments come from is repeated in [`Saga::call`]. The
//!   system tests run the real thing.
//! - Stripe: the bank of the model is the sandbox, whose every request is one conditional write.

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
    order::{Decision, Order, Parking, Prices, Reason, Reconciliation, Status, Visit},
};
use payments::{
    payment::{self, Command, IntentStatus, Next, Payment, Prepared, ProviderName, Purchase, Record},
    sandbox::{self, Intent},
};
use serde::Deserialize;
use serde_json::{Value, json};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Path, Property};
use uuid::Uuid;

const BUYER: Uuid = Uuid::from_u128(7);
const NOW: i64 = 1_700_000_000;

/// The error of a step that failed and may go well at another attempt.
const TRANSIENT: &str = "Transient";
/// The error of a step that the state machine waits no longer for.
const TIME_OUT: &str = "States.Timeout";
/// The error of a step that is cut off.
const CUT_OFF: &str = "Lambda.Unknown";

fn now() -> Timestamp {
    Timestamp::from_microsecond(NOW * 1_000_000)
}

/// A value that is shared between states and hashed once.
struct Kept<T>(Arc<(u64, T)>);

impl<T: Hash> Kept<T> {
    fn new(value: T) -> Self {
        Self(Arc::new((BuildHasherDefault::<DefaultHasher>::new().hash_one(&value), value)))
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T: PartialEq> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0 && **self == **other
    }
}

impl<T: Eq> Eq for Kept<T> {}

impl<T> Hash for Kept<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.0.hash(state);
    }
}

impl<T: fmt::Debug> fmt::Debug for Kept<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

// The state machine, as its definition has it.

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

/// The functions, as the template gives them to the definition.
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
            assert!(step.next.is_some() != step.end, "{name} goes on, or ends");
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

    /// Whether what the function answers is part of what later states see.
    fn keeps_the_answer(&self) -> bool {
        self.output.as_str().is_some_and(|output| output.contains("$states.result.Payload"))
    }
}

impl Catcher {
    /// Whether the error is part of what later states see, as what the order's failure is told by.
    fn notes_the_error(&self) -> bool {
        self.output.contains("\"error\": $states.errorOutput.Error")
    }
}

// What there is.

/// All there is at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    stock: Kept<Vec<StockItem>>,
    sagas: Vec<Saga>,
    left: Budget,
}

/// How often may still happen what nobody has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Budget {
    /// An invocation is overtaken by its time-out, or cut off.
    faults: u8,
    /// An execution is stopped.
    stops: u8,
    /// An execution is redriven.
    redrives: u8,
    /// The buyer cancels an order.
    cancels: u8,
    /// The reconciler looks at an order whose latest execution is alive.
    looks: u8,
    /// A webhook is heard.
    webhooks: u8,
}

/// An order with all that happens for it: what stands in the three tables and at the bank, the executions,
/// and the invocations in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Saga {
    order: Kept<Order>,
    reservation: Option<Kept<Reservation>>,
    payment: Kept<Record>,
    intent: Option<Kept<Intent>>,
    /// The first attempt first.
    executions: Vec<Execution>,
    /// In an order that says nothing.
    invocations: Vec<Kept<Invocation>>,
    /// What must not happen and has.
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Execution {
    at: At,
    /// What the state machine has been told the order costs.
    prices: Option<Kept<Prices>>,
    /// What has ended the way forward.
    error: Option<Name>,
    /// How often it has come to where it leaves the order to a person.
    parks: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// In a state, where it waits for an invocation.
    State(Name),
    /// It has done all of its work.
    Succeeded,
    /// It failed in a state, or was stopped there.
    Ended(Name),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Invocation {
    /// The place of the execution that waits for it; none where nobody does any more, or ever did.
    awaited_by: Option<usize>,
    call: Call,
    knows: Knows,
}

/// What a function is called for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Call {
    ValidateUser,
    Reserve,
    Authorize(Purchase),
    Confirm(Prices),
    Capture,
    Commit,
    Abort(Option<Name>, Option<Prices>),
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
enum Knows {
    Nothing,
    /// The order as it is to be written, and what is answered then.
    Change(Kept<Order>, Result<(), Name>),
    /// The reservation, before the stock is read.
    Reservation(Option<Kept<Reservation>>),
    /// That there was no reservation, and why there cannot be one; before the reservation is read again.
    Refusal(Refusal),
    /// What is to be written, and what is answered then.
    Transition(Kept<Transition>, Option<Prices>),
    /// The payment, and what the bank has said since.
    Payment(Kept<Record>, Option<IntentStatus>),
    /// The order, before its execution is asked for.
    Order(Kept<Order>),
    /// The order as it is to be written, and whether its execution is started then.
    Reconciled(Kept<Order>, bool),
    /// Which attempt is to be started.
    Start(u32),
}

/// What comes of a step of an invocation.
enum Turn {
    GoesOn(Knows),
    Ends(Result<Option<Prices>, Name>),
}

/// Something that can happen, to the order in this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    /// An invocation makes its next step.
    Step(usize, usize),
    /// The state machine waits no longer for an invocation that is still at work.
    TimeOut(usize, usize, Then),
    /// An invocation is cut off.
    Die(usize, usize, Then),
    /// Somebody stops an execution.
    Stop(usize, usize),
    /// Somebody redrives an execution that has ended.
    Redrive(usize, usize),
    /// The buyer cancels.
    Cancel(usize),
    /// The reconciler looks.
    Look(usize),
    /// A webhook is heard.
    Hear(usize),
}

/// What the state machine does about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    TryAgain,
    /// As after the last attempt.
    GiveUp,
}

// What happens.

/// A mistake that the protocol could have been made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// What failed is undone before it is decided that the order will not be confirmed.
    UndoesBeforeDeciding,
    /// Nothing is left where a reservation was taken back, or never was.
    ReleasesWithoutTombstone,
    /// An order is written whatever has become of it since it was read.
    WritesBlindly,
    /// That the order turns out to be confirmed is taken for one more failure of what undoes it.
    ForgetsThePivot,
}

struct Protocol {
    machine: Machine,
    mistake: Option<Mistake>,
    /// How many there are of the one thing that each order wants one of.
    on_hand: u64,
    /// What each order is paid with.
    cards: Vec<&'static str>,
    budget: Budget,
    /// What has to be reached, by the names in [`Protocol::properties`].
    reaches: &'static [&'static str],
    /// The states, by their hashes, that are known to come to rest.
    restful: Mutex<HashSet<u64>>,
}

impl Protocol {
    fn new(on_hand: u64, cards: &[&'static str], budget: Budget, reaches: &'static [&'static str]) -> Self {
        let (machine, cards) = (Machine::load(), cards.to_vec());
        Self { machine, mistake: None, on_hand, cards, budget, reaches, restful: Mutex::default() }
    }

    fn with(mut self, mistake: Mistake) -> Self {
        self.mistake = Some(mistake);
        for catchers in self.machine.states.values_mut().map(|step| &mut step.catch) {
            match mistake {
                Mistake::UndoesBeforeDeciding => {
                    for catcher in catchers.iter_mut().filter(|catcher| catcher.next == "AbortOrder") {
                        catcher.next = "CancelPayment";
                    }
                }
                Mistake::ForgetsThePivot => catchers.retain(|catcher| catcher.next != "CapturePayment"),
                Mistake::ReleasesWithoutTombstone | Mistake::WritesBlindly => {}
            }
        }
        self
    }

    fn step_of(&self, state: Name) -> &Step {
        &self.machine.states[state]
    }

    /// Makes the next step of an invocation.
    fn step(&self, stock: &mut Kept<Vec<StockItem>>, saga: &mut Saga, invocation: &Invocation) -> Turn {
        let Invocation { call, knows, .. } = invocation;
        match call {
            Call::ValidateUser => Turn::Ends(saga.order.may_proceed().map(|()| None).map_err(Refusal::name)),
            Call::Confirm(_) | Call::Abort(..) | Call::Reject | Call::Park(_) | Call::CancelOrder => {
                self.decide(saga, call, knows)
            }
            Call::Reserve | Call::Commit | Call::Release => self.move_items(stock, saga, call, knows),
            Call::Authorize(purchase) => pay(saga, &Command::Authorize(purchase.clone()), knows),
            Call::Capture => pay(saga, &Command::Capture, knows),
            Call::CancelPayment => pay(saga, &Command::Cancel, knows),
            Call::Webhook => pay(saga, &Command::Synchronize, knows),
            Call::Reconcile => self.reconcile(saga, knows),
        }
    }

    /// As `orders::store::Orders::decide`.
    fn decide(&self, saga: &mut Saga, call: &Call, knows: &Knows) -> Turn {
        if let Knows::Change(changed, answer) = knows {
            let written = self.replace(saga, changed);
            return if written { Turn::Ends(answer.map(|()| None)) } else { Turn::GoesOn(Knows::Nothing) };
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
                Parking::Waits(decision) | Parking::Resumes(decision) => decision,
            }),
            _ => unreachable!("{call:?}"),
        };
        let answer = |order: &Order| match call {
            Call::Park(_) if order.parked => Err(Refusal::NeedsAttention.name()),
            _ => Ok(()),
        };
        match decided {
            Ok(Decision::Already) => Turn::Ends(answer(order).map(|()| None)),
            Ok(Decision::Change(changed)) => {
                let answer = answer(&changed.order);
                Turn::GoesOn(Knows::Change(Kept::new(changed.order), answer))
            }
            Err(error) => Turn::Ends(Err(error)),
        }
    }

    /// Writes an order over the version before it; false if that is no longer the latest.
    fn replace(&self, saga: &mut Saga, changed: &Kept<Order>) -> bool {
        let latest = &saga.order;
        if latest.version + 1 != changed.version && self.mistake != Some(Mistake::WritesBlindly) {
            return false;
        }
        let decided = latest.status != Status::Pending && changed.status != latest.status;
        let undone = latest.reason.is_some() && changed.reason != latest.reason;
        if decided || undone || latest.settled && !changed.settled {
            saga.broken = Some("what was decided is decided otherwise");
        }
        saga.order = changed.clone();
        true
    }

    /// As `inventory::tasks::settle`.
    fn move_items(
        &self,
        stock: &mut Kept<Vec<StockItem>>,
        saga: &mut Saga,
        call: &Call,
        knows: &Knows,
    ) -> Turn {
        let (promise, transition) = match (call, knows) {
            (_, Knows::Transition(transition, prices)) => {
                let standing = saga.reservation.as_deref();
                let Some(moved) = transition.apply(standing, stock) else {
                    return Turn::GoesOn(Knows::Nothing);
                };
                *stock = Kept::new(moved);
                let reservation = transition.reservation.clone();
                let forgets =
                    *call == Call::Release && self.mistake == Some(Mistake::ReleasesWithoutTombstone);
                saga.reservation = (!forgets).then(|| Kept::new(reservation));
                return Turn::Ends(Ok(prices.clone()));
            }
            (Call::Reserve, Knows::Reservation(present)) => {
                match Reservation::reserve(present.as_deref(), stock, &saga.basket()) {
                    Ok((promise, transition)) => (Some(promise), transition),
                    Err(refusal) if present.is_none() => return Turn::GoesOn(Knows::Refusal(refusal)),
                    Err(refusal) => return Turn::Ends(Err(refusal.name())),
                }
            }
            (Call::Reserve, Knows::Refusal(refusal)) => match saga.reservation.as_deref() {
                None => return Turn::Ends(Err(refusal.name())),
                present => match Reservation::reserve(present, stock, &saga.basket()) {
                    Ok((promise, transition)) => (Some(promise), transition),
                    Err(refusal) => return Turn::Ends(Err(refusal.name())),
                },
            },
            // A batch of reads is not one moment.
            (Call::Reserve, _) => return Turn::GoesOn(Knows::Reservation(saga.reservation.clone())),
            (Call::Commit, _) => match Reservation::commit(saga.reservation.as_deref()) {
                Ok(transition) => (None, transition),
                Err(_) => return Turn::Ends(Err(TRANSIENT)),
            },
            _ => (None, Reservation::release(saga.reservation.as_deref(), saga.order.id, now())),
        };
        let prices = promise.map(|promise| Prices { lines: promise.lines, total: promise.total });
        match transition {
            None => Turn::Ends(Ok(prices)),
            Some(transition) => Turn::GoesOn(Knows::Transition(Kept::new(transition), prices)),
        }
    }

    /// As `orders::reconciler::look_after`.
    fn reconcile(&self, saga: &mut Saga, knows: &Knows) -> Turn {
        match knows {
            Knows::Order(order) => match saga.reconciliation(order) {
                Reconciliation::Leave => Turn::Ends(Ok(None)),
                Reconciliation::Start => Turn::GoesOn(Knows::Start(order.attempt)),
                Reconciliation::StartNext(decision) => {
                    Turn::GoesOn(Knows::Reconciled(Kept::new(decision.of(order)), true))
                }
                Reconciliation::Settle(decision) | Reconciliation::Park(decision) => {
                    Turn::GoesOn(Knows::Reconciled(Kept::new(decision.of(order)), false))
                }
            },
            Knows::Reconciled(changed, starts) if self.replace(saga, changed) && *starts => {
                Turn::GoesOn(Knows::Start(changed.attempt))
            }
            Knows::Start(attempt) => {
                // A name stands for one execution.
                if saga.executions.len() + 1 == *attempt as usize {
                    self.start(saga);
                }
                Turn::Ends(Ok(None))
            }
            _ => Turn::Ends(Ok(None)),
        }
    }

    /// The next attempt begins.
    fn start(&self, saga: &mut Saga) {
        let at = At::State(self.machine.start_at);
        saga.executions.push(Execution { at, prices: None, error: None, parks: 0 });
        self.enter(saga, saga.executions.len() - 1, self.machine.start_at);
    }

    /// An execution comes to a state.
    fn enter(&self, saga: &mut Saga, place: usize, state: Name) {
        let function = self.step_of(state).arguments.function_name;
        let execution = &mut saga.executions[place];
        execution.at = At::State(state);
        execution.parks += u8::from(function == Function::Park);
        saga.invoke(function, place);
    }

    /// What an execution waited for has ended.
    fn go_on(&self, saga: &mut Saga, place: usize, answer: Result<Option<Prices>, Name>, then: Then) {
        let execution = &mut saga.executions[place];
        let At::State(state) = execution.at else { unreachable!("{execution:?} waits for nothing") };
        let step = self.step_of(state);
        let next = match answer {
            Ok(prices) => {
                if step.keeps_the_answer() && prices.is_some() {
                    execution.prices = prices.map(Kept::new);
                }
                step.next.ok_or(At::Succeeded)
            }
            Err(error) if then == Then::TryAgain && step.may_retry(error) => {
                return saga.invoke(step.arguments.function_name, place);
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
            Ok(state) => self.enter(saga, place, state),
            Err(at) => execution.at = at,
        }
    }

    /// Whether everything settles once nothing goes wrong any more, and somebody redrives the latest
    /// execution of what waits for a person.
    fn comes_to_rest(&self, world: &World) -> bool {
        let mut world = world.clone();
        let mut on_the_way = Vec::new();
        loop {
            // What is left of the budget makes no difference to what happens by itself.
            world.left = Budget { redrives: 1, looks: 1, ..Budget::default() };
            let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(&world);
            if self.restful.lock().unwrap().contains(&hash) {
                break;
            }
            on_the_way.push(hash);
            if on_the_way.len() > 300 {
                return false;
            }
            let parked = || {
                let order = world.sagas.iter().position(|saga| !saga.order.settled)?;
                Some(Happening::Redrive(order, world.sagas[order].executions.len() - 1))
            };
            let Some(happening) = world.next_by_itself().or_else(parked) else {
                if world.sagas.iter().all(Saga::agrees) {
                    break;
                }
                return false;
            };
            let Some(next) = self.next_state(&world, happening) else { return false };
            world = next;
        }
        self.restful.lock().unwrap().extend(on_the_way);
        true
    }

    /// What the state machine may do when an invocation ends with an error.
    fn faults_of(
        &self,
        saga: &Saga,
        invocation: &Invocation,
        error: Name,
    ) -> impl Iterator<Item = Then> + use<> {
        let state = invocation.awaited_by.map(|place| saga.executions[place].at);
        let tries_again = match state {
            Some(At::State(state)) => self.step_of(state).may_retry(error),
            _ => false,
        };
        [Then::GiveUp].into_iter().chain(tries_again.then_some(Then::TryAgain))
    }
}

/// As `payments::cashier::Cashier::carry_out`: one read, write or request, and what follows from it.
fn pay(saga: &mut Saga, command: &Command, knows: &Knows) -> Turn {
    let (record, said) = match knows {
        Knows::Payment(record, said) => match payment::next(command, record, said.as_ref()) {
            Next::Begin(purchase) => {
                if *saga.payment == Record::None {
                    let prepared = Prepared::Intent(format!("sandbox_{}", purchase.order_id));
                    let payment = Payment::begin(purchase, ProviderName::Sandbox, prepared, now());
                    saga.payment = Kept::new(Record::Payment(payment));
                }
                (saga.payment.clone(), None)
            }
            Next::Ask(request) => {
                let Record::Payment(payment) = &**record else { unreachable!("nothing to ask about") };
                let (amount, method) = (payment.amount, &payment.payment_method);
                if let Some(intent) = sandbox::carry_out(request, saga.intent.as_deref(), amount, method) {
                    saga.intent = Some(Kept::new(intent));
                }
                let said = saga.intent.as_ref().map_or(IntentStatus::Open, |intent| intent.status.clone());
                (record.clone(), Some(said))
            }
            Next::Write(payment) => match &*saga.payment {
                Record::Payment(standing) if standing.version + 1 == payment.version => {
                    saga.payment = Kept::new(Record::Payment(*payment));
                    (saga.payment.clone(), None)
                }
                _ => return Turn::GoesOn(Knows::Nothing),
            },
            Next::Bury => {
                if *saga.payment == Record::None {
                    saga.payment = Kept::new(Record::Tombstone);
                }
                (saga.payment.clone(), None)
            }
            next => unreachable!("{next:?} ends the invocation"),
        },
        _ => (saga.payment.clone(), None),
    };
    match payment::next(command, &record, said.as_ref()) {
        Next::Done => Turn::Ends(Ok(None)),
        Next::Refuse(refusal) => Turn::Ends(Err(refusal.name())),
        Next::Fail(_) => Turn::Ends(Err(TRANSIENT)),
        _ => Turn::GoesOn(Knows::Payment(record, said)),
    }
}

impl World {
    /// What happens by itself, where anything does.
    fn next_by_itself(&self) -> Option<Happening> {
        self.sagas.iter().enumerate().find_map(|(order, saga)| {
            if saga.invocations.is_empty() {
                saga.needs_a_look().then_some(Happening::Look(order))
            } else {
                Some(Happening::Step(order, 0))
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
            order: Kept::new(order),
            reservation: None,
            payment: Kept::new(Record::None),
            intent: None,
            executions: Vec::new(),
            invocations: Vec::new(),
            broken: None,
        }
    }

    /// What the inventory is asked for.
    fn basket(&self) -> reservation::Order {
        let items = self.order.draft.items.as_slice().to_vec().try_into().unwrap();
        reservation::Order { order_id: self.order.id, items, expected_total: self.order.draft.expected_total }
    }

    /// What a function is called with by an execution.
    fn call(&self, function: Function, place: usize) -> Call {
        let Execution { prices, error, parks, .. } = &self.executions[place];
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
            // How many times it came there, in place of when it did.
            Function::Park => {
                Call::Park(Visit { execution: (place + 1).to_string(), entry: parks.to_string() })
            }
        }
    }

    fn invoke(&mut self, function: Function, place: usize) {
        let call = self.call(function, place);
        self.add(Invocation { awaited_by: Some(place), call, knows: Knows::Nothing });
    }

    fn add(&mut self, invocation: Invocation) {
        let invocation = Kept::new(invocation);
        // Sorted, so that states that differ in nothing else are one.
        let place = self.invocations.partition_point(|other| other.0.0 < invocation.0.0);
        self.invocations.insert(place, invocation);
    }

    /// Nobody waits any more for what an execution waited for.
    fn leave_alone(&mut self, place: usize) {
        let waits = |invocation: &Kept<Invocation>| invocation.awaited_by == Some(place);
        let awaited = self.invocations.iter().position(waits).expect("an execution waits for something");
        let Invocation { call, knows, .. } = Invocation::clone(&self.invocations.remove(awaited));
        self.add(Invocation { awaited_by: None, call, knows });
    }

    /// What the reconciler does about the order as it was read, with the executions as they are.
    fn reconciliation(&self, order: &Order) -> Reconciliation {
        let execution = match self.executions.get(order.attempt as usize - 1).map(|execution| execution.at) {
            None => orders::order::Execution::NotFound,
            Some(At::State(_)) => orders::order::Execution::Running,
            Some(At::Succeeded) => orders::order::Execution::Succeeded,
            Some(At::Ended(_)) => orders::order::Execution::Failed,
        };
        order.reconcile(execution, order.check_at)
    }

    fn needs_a_look(&self) -> bool {
        self.reconciliation(&self.order) != Reconciliation::Leave
            && !self.invocations.iter().any(|invocation| invocation.call == Call::Reconcile)
    }

    fn is_at_rest(&self) -> bool {
        self.invocations.is_empty() && !self.needs_a_look()
    }

    fn holds_money(&self) -> bool {
        let held = matches!(
            self.intent.as_ref().map(|intent| &intent.status),
            Some(IntentStatus::Held | IntentStatus::Captured)
        );
        held || self.is(payment::Status::Authorized) || self.is(payment::Status::Captured)
    }

    fn is(&self, status: payment::Status) -> bool {
        matches!(&*self.payment, Record::Payment(payment) if payment.status == status)
    }

    fn has_taken_money(&self) -> bool {
        self.is(payment::Status::Captured)
            || self.intent.as_ref().is_some_and(|intent| intent.status == IntentStatus::Captured)
    }

    fn reservation(&self) -> Option<&reservation::State> {
        self.reservation.as_ref().map(|reservation| &reservation.state)
    }

    fn has_items(&self) -> bool {
        matches!(self.reservation(), Some(reservation::State::Held(_) | reservation::State::Committed(_)))
    }

    /// Whether the three services agree about an order of which all is done.
    fn agrees(&self) -> bool {
        let committed = matches!(self.reservation(), Some(reservation::State::Committed(_)));
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
    type Action = Happening;

    /// Orders have been placed. Their executions were started, or it is left to the reconciler.
    fn init_states(&self) -> Vec<World> {
        let listing = json!({"name": "Tea", "unit_price": {"amount": 450, "currency": "USD"},
            "on_hand": self.on_hand});
        let listing = Listing::read(Fields::read(listing.to_string().as_bytes()).unwrap()).unwrap();
        let stock = vec![StockItem::list(events::Sku::parse("TEA").unwrap(), listing)];
        let placed = |(place, card): (usize, &&str)| Saga::place(place as u128 + 1, card);
        let sagas: Vec<Saga> = self.cards.iter().enumerate().map(placed).collect();
        let world = World { stock: Kept::new(stock), sagas, left: self.budget };
        let mut started = world.clone();
        started.sagas.iter_mut().for_each(|saga| self.start(saga));
        vec![started, world]
    }

    fn actions(&self, world: &World, happenings: &mut Vec<Happening>) {
        let left = &world.left;
        for (order, saga) in world.sagas.iter().enumerate() {
            for (place, invocation) in saga.invocations.iter().enumerate() {
                if place > 0 && saga.invocations[place - 1] == *invocation {
                    continue;
                }
                happenings.push(Happening::Step(order, place));
                if left.faults == 0 {
                    continue;
                }
                if invocation.awaited_by.is_some() {
                    let faults = self.faults_of(saga, invocation, TIME_OUT);
                    happenings.extend(faults.map(|then| Happening::TimeOut(order, place, then)));
                }
                let faults = self.faults_of(saga, invocation, CUT_OFF);
                // Nothing is changed by what is begun again before it has done anything.
                let unchanged = |then: &Then| *then == Then::TryAgain && invocation.knows == Knows::Nothing;
                let faults = faults.filter(|then| !unchanged(then));
                happenings.extend(faults.map(|then| Happening::Die(order, place, then)));
            }
            for (place, execution) in saga.executions.iter().enumerate() {
                match execution.at {
                    At::State(_) if left.stops > 0 => happenings.push(Happening::Stop(order, place)),
                    At::Ended(_) if left.redrives > 0 => happenings.push(Happening::Redrive(order, place)),
                    _ => {}
                }
            }
            if saga.needs_a_look() || left.looks > 0 {
                happenings.push(Happening::Look(order));
            }
            if left.cancels > 0 {
                happenings.push(Happening::Cancel(order));
            }
            if left.webhooks > 0 {
                happenings.push(Happening::Hear(order));
            }
        }
    }

    fn next_state(&self, world: &World, happening: Happening) -> Option<World> {
        let mut world = world.clone();
        let World { stock, sagas, left } = &mut world;
        match happening {
            Happening::Step(order, place) => {
                let saga = &mut sagas[order];
                let invocation = saga.invocations.remove(place);
                match self.step(stock, saga, &invocation) {
                    Turn::GoesOn(knows) => {
                        let Invocation { awaited_by, call, .. } = Invocation::clone(&invocation);
                        saga.add(Invocation { awaited_by, call, knows });
                    }
                    Turn::Ends(answer) => {
                        if answer == Err(TRANSIENT) {
                            saga.broken = Some("a step fails of itself");
                        }
                        if let Some(place) = invocation.awaited_by {
                            self.go_on(saga, place, answer, Then::GiveUp);
                        }
                    }
                }
            }
            Happening::TimeOut(order, place, then) => {
                left.faults -= 1;
                let saga = &mut sagas[order];
                let execution = saga.invocations[place].awaited_by?;
                saga.leave_alone(execution);
                self.go_on(saga, execution, Err(TIME_OUT), then);
            }
            Happening::Die(order, place, then) => {
                left.faults -= 1;
                let saga = &mut sagas[order];
                let invocation = saga.invocations.remove(place);
                if let Some(place) = invocation.awaited_by {
                    self.go_on(saga, place, Err(CUT_OFF), then);
                }
            }
            Happening::Stop(order, place) => {
                left.stops -= 1;
                let saga = &mut sagas[order];
                let At::State(state) = saga.executions[place].at else { return None };
                saga.executions[place].at = At::Ended(state);
                saga.leave_alone(place);
            }
            Happening::Redrive(order, place) => {
                left.redrives -= 1;
                let At::Ended(state) = sagas[order].executions[place].at else { return None };
                self.enter(&mut sagas[order], place, state);
            }
            Happening::Cancel(order) => {
                left.cancels -= 1;
                let Turn::GoesOn(knows) = self.decide(&mut sagas[order], &Call::CancelOrder, &Knows::Nothing)
                else {
                    return None;
                };
                sagas[order].add(Invocation { awaited_by: None, call: Call::CancelOrder, knows });
            }
            Happening::Look(order) => {
                let saga = &mut sagas[order];
                if !saga.needs_a_look() {
                    left.looks -= 1;
                }
                if saga.order.settled {
                    return None;
                }
                let knows = Knows::Order(saga.order.clone());
                saga.add(Invocation { awaited_by: None, call: Call::Reconcile, knows });
            }
            Happening::Hear(order) => {
                left.webhooks -= 1;
                let saga = &mut sagas[order];
                let Turn::GoesOn(knows) = pay(saga, &Command::Synchronize, &Knows::Nothing) else {
                    return None;
                };
                saga.add(Invocation { awaited_by: None, call: Call::Webhook, knows });
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = promises();
        properties.extend(sights().into_iter().filter(|property| self.reaches.contains(&property.name)));
        properties
    }
}

const KEEPS: &str = "a confirmed order keeps its money and its items";
const STAYS: &str = "what is decided stays decided, and no step fails of itself";
const SETTLES: &str = "once nothing goes wrong any more, every order settles";
const AGREE: &str = "at rest the three services agree about a settled order";

/// What holds in every state.
fn promises() -> Vec<Property<Protocol>> {
    vec![
        Property::always("what is on hand covers what is promised", |protocol, world: &World| {
            let states = || world.sagas.iter().filter_map(Saga::reservation);
            let held = states().filter(|state| matches!(state, reservation::State::Held(_))).count();
            let gone = states().filter(|state| matches!(state, reservation::State::Committed(_))).count();
            world.stock.iter().all(|item| {
                item.reserved == held as u64
                    && item.on_hand + gone as u64 == protocol.on_hand
                    && item.on_hand.checked_sub(item.reserved) == Some(item.available)
            })
        }),
        Property::always("money is taken for confirmed orders only", |_, world: &World| {
            let confirmed = |saga: &Saga| saga.order.status == Status::Confirmed;
            world.sagas.iter().all(|saga| confirmed(saga) || !saga.has_taken_money())
        }),
        Property::always(KEEPS, |_, world: &World| {
            let confirmed = |saga: &&Saga| saga.order.status == Status::Confirmed;
            world.sagas.iter().filter(confirmed).all(|saga| saga.holds_money() && saga.has_items())
        }),
        Property::always(STAYS, |_, world: &World| world.sagas.iter().all(|saga| saga.broken.is_none())),
        Property::always("at rest an order is settled or waits for a person", |_, world: &World| {
            let ended = |saga: &Saga| saga.order.settled || saga.order.parked;
            world.sagas.iter().all(|saga| !saga.is_at_rest() || ended(saga))
        }),
        Property::always(AGREE, |_, world: &World| {
            let settled = |saga: &&Saga| saga.is_at_rest() && saga.order.settled;
            world.sagas.iter().filter(settled).all(Saga::agrees)
        }),
        Property::always("a settled order does not wait for a person", |_, world: &World| {
            world.sagas.iter().all(|saga| !saga.order.settled || !saga.order.parked)
        }),
        Property::always("nothing is out of stock that there is enough of", |protocol, world: &World| {
            let refused = |saga: &Saga| saga.order.reason == Some(Reason::OutOfStock);
            world.sagas.len() as u64 > protocol.on_hand || !world.sagas.iter().any(refused)
        }),
        Property::always("a person is called for what went wrong only", |protocol, world: &World| {
            let (left, given) = (&world.left, &protocol.budget);
            let wrong = left.faults < given.faults || left.stops < given.stops;
            wrong || !world.sagas.iter().any(|saga| saga.order.parked)
        }),
        Property::always(SETTLES, Protocol::comes_to_rest),
    ]
}

/// What is seen on the way.
fn sights() -> Vec<Property<Protocol>> {
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
        // The one execution has given up confirming and is about to decide otherwise.
        Property::sometimes("confirmed by a late invocation", |_, world: &World| {
            some(world, |saga| match saga.executions.as_slice() {
                [Execution { at: At::State("AbortOrder"), parks: 0, .. }] => {
                    saga.order.status == Status::Confirmed
                }
                _ => false,
            })
        }),
        Property::sometimes("confirmed while an older attempt is alive", |_, world: &World| {
            some(world, |saga| match saga.executions.as_slice() {
                [older, Execution { at: At::Succeeded, .. }] => {
                    matches!(older.at, At::State(_)) && saga.order.status == Status::Confirmed
                }
                _ => false,
            })
        }),
        Property::sometimes("left to a person after three attempts", |_, world: &World| {
            some(world, |saga| saga.executions.len() == 3 && saga.is_at_rest() && saga.order.parked)
        }),
    ]
}

const VISA: &str = "pm_card_visa";
const DECLINED: &str = "pm_card_chargeDeclined";

/// Explores everything. A promise that is broken is told with the shortest way to where it is.
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
            (Expectation::Sometimes, None) => panic!("{name}: never seen: {}", property.name),
            (Expectation::Always, Some(path)) => panic!("{name}: not so: {}\n{}", property.name, tell(path)),
            _ => {}
        }
    }
}

/// What happens on a way, and what it comes to.
fn tell(path: &Path<World, Happening>) -> String {
    let happenings = path.clone().into_vec().into_iter().map(|(world, happening)| match happening {
        Some(
            Happening::Step(order, place)
            | Happening::TimeOut(order, place, _)
            | Happening::Die(order, place, _),
        ) => format!("{happening:?}: {:?}\n", world.sagas[order].invocations[place]),
        Some(happening) => format!("{happening:?}\n"),
        None => format!("{world:#?}\n"),
    });
    happenings.collect()
}

/// Asserts that the checker sees a protocol with a mistake break a promise which it keeps without.
fn assert_breaks(promise: &'static str, protocol: impl Fn() -> Protocol, mistake: Mistake) {
    let seen = |protocol: Protocol| {
        let checker = protocol.checker().finish_when(HasDiscoveries::AnyOf([promise].into())).spawn_bfs();
        checker.join().discovery(promise)
    };
    let broken = seen(protocol().with(mistake));
    let steps = broken.unwrap_or_else(|| panic!("{mistake:?} goes unnoticed")).into_actions().len();
    println!("model: {mistake:?} is seen after {steps} steps: not so: {promise}");
    assert!(seen(protocol()).is_none(), "it is not the fault of {mistake:?}");
}

#[test]
fn an_order_settles_whatever_is_cut_off_or_late() {
    let budget = Budget { faults: 3, ..Budget::default() };
    let reaches = &["confirmed", "given up", "parked", "confirmed by a late invocation"];
    explore("three faults", Protocol::new(1, &[VISA], budget, reaches));
}

#[test]
fn an_order_settles_whatever_is_cancelled_redriven_and_heard_of_its_payment() {
    let budget = Budget { faults: 2, redrives: 1, cancels: 1, ..Budget::default() };
    let reaches = &["confirmed", "cancelled", "parked", "settled after it was parked"];
    explore("two faults, a cancellation, a redrive", Protocol::new(1, &[VISA], budget, reaches));
    let budget = Budget { faults: 1, cancels: 1, webhooks: 1, ..Budget::default() };
    let reaches = &["confirmed", "cancelled", "given up"];
    explore("a fault, a cancellation, a webhook", Protocol::new(1, &[VISA], budget, reaches));
}

#[test]
fn an_order_that_cannot_be_paid_is_undone_and_told_why() {
    let budget = Budget { faults: 2, cancels: 1, ..Budget::default() };
    let reaches = &["declined", "cancelled", "given up", "parked"];
    explore("a declined card", Protocol::new(1, &[DECLINED], budget, reaches));
}

#[test]
fn attempts_beside_each_other_settle_an_order_as_one() {
    let budget = Budget { faults: 1, stops: 1, redrives: 1, ..Budget::default() };
    let reaches = &["confirmed", "given up", "confirmed while an older attempt is alive"];
    explore("a fault, a stop, a redrive", Protocol::new(1, &[VISA], budget, reaches));
}

#[test]
fn attempts_beside_each_other_settle_an_order_as_one_whatever_the_buyer_cancels_meanwhile() {
    let budget = Budget { stops: 1, redrives: 1, cancels: 1, looks: 1, ..Budget::default() };
    let reaches = &["confirmed", "cancelled", "confirmed while an older attempt is alive"];
    explore("a stop, a redrive, a cancellation, an early look", Protocol::new(1, &[VISA], budget, reaches));
}

#[test]
fn an_order_whose_every_attempt_is_stopped_waits_for_a_person() {
    let budget = Budget { stops: 3, ..Budget::default() };
    let reaches = &["confirmed", "left to a person after three attempts"];
    explore("three stops", Protocol::new(1, &[VISA], budget, reaches));
}

#[test]
fn of_two_orders_for_the_last_item_one_gets_it() {
    let budget = Budget { faults: 1, cancels: 1, ..Budget::default() };
    let reaches = &["confirmed", "out of stock", "cancelled"];
    explore("two orders", Protocol::new(1, &[VISA, VISA], budget, reaches));
    let budget = Budget { faults: 1, ..Budget::default() };
    let reaches = &["confirmed", "out of stock", "declined"];
    explore("two orders, a declined card", Protocol::new(1, &[VISA, DECLINED], budget, reaches));
}

#[test]
fn undoing_before_it_is_decided_would_lose_to_a_late_confirmation() {
    let one_fault = || Protocol::new(1, &[VISA], Budget { faults: 1, ..Budget::default() }, &[]);
    assert_breaks(KEEPS, one_fault, Mistake::UndoesBeforeDeciding);
}

#[test]
fn releasing_without_a_tombstone_would_let_a_late_reservation_hold_items_for_ever() {
    let one_fault = || Protocol::new(1, &[VISA], Budget { faults: 1, ..Budget::default() }, &[]);
    assert_breaks(AGREE, one_fault, Mistake::ReleasesWithoutTombstone);
}

#[test]
fn writing_an_order_blindly_would_undo_what_was_decided() {
    let cancelled = || Protocol::new(1, &[VISA], Budget { cancels: 1, ..Budget::default() }, &[]);
    assert_breaks(STAYS, cancelled, Mistake::WritesBlindly);
}

#[test]
fn a_confirmed_order_that_could_only_be_undone_would_never_settle() {
    let one_fault = || Protocol::new(1, &[VISA], Budget { faults: 1, ..Budget::default() }, &[]);
    assert_breaks(SETTLES, one_fault, Mistake::ForgetsThePivot);
}
