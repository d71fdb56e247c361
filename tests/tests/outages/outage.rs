//! A run: the dependencies that are away, and what is asserted once they are back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_sqs::types::QueueAttributeName;
use futures::future::join_all;
use serde_json::json;
use system_tests::{
    System,
    faults::{
        Call, Environments, Fate, Proxy, Refusal, change_variables, finally, restore_variables, retries,
    },
    turns::{CLOUD, turn},
};
use tokio::time::Instant;

use crate::{
    dependencies::{Dependency, Function, Kind, functions},
    people::People,
    report::{self, Row},
};

/// How long a second of a consumer's retries takes here.
const TIME_SCALE: f64 = 0.01;
/// How long a dependency is away.
const OUTAGE: Duration = Duration::from_hours(1);
/// How long a dependency of the steps before the pivot is away: ten minutes are outlasted before an order is confirmed.
const OUTAGE_BEFORE_THE_PIVOT: Duration = Duration::from_mins(9);
/// The steps before the pivot.
const BEFORE_THE_PIVOT: [&str; 4] =
    ["orders-validate-user", "inventory-reserve", "payments-authorize", "orders-confirm"];
/// The consumers' visibility time-out in seconds: longer than the functions may run (15 s), and shorter than the templates' 90
/// to save time.
const VISIBILITY_TIMEOUT: &str = "20";

/// What happens to the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They are throttled, or fail with an internal error.
    Refuses,
    /// They are never answered.
    Swallows,
}

impl Mode {
    pub(crate) const BOTH: [Self; 2] = [Self::Refuses, Self::Swallows];

    fn fate(self, dependency: Dependency) -> Fate {
        match (self, dependency) {
            (Self::Swallows, _) => Fate::Swallow,
            (Self::Refuses, Dependency::Table) => Fate::Refuse(Refusal::throttled()),
            (
                Self::Refuses,
                Dependency::Bus | Dependency::Queue | Dependency::Workflow | Dependency::UserPool,
            ) => {
                let body = json!({"__type": "ThrottlingException", "message": "slow down"});
                Fate::Refuse(Refusal { status: 400, body })
            }
            (Self::Refuses, _) => Fate::Refuse(Refusal::failure()),
        }
    }
}

/// Outages at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) parts: &'static [(Dependency, Kind)],
}

/// The outage of one dependency of one function. It begins with the function's first call.
pub(crate) struct Outage {
    pub(crate) function: Function,
    dependency: Dependency,
    proxy: Proxy,
    length: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    began: Option<Instant>,
    lost: usize,
}

impl Outage {
    async fn prepare(people: &People, function: Function, dependency: Dependency, mode: Mode) -> Self {
        let length = match function.kind {
            Kind::Step if BEFORE_THE_PIVOT.contains(&function.name.as_str()) => {
                OUTAGE_BEFORE_THE_PIVOT.mul_f64(retries::time_scale())
            }
            Kind::Step => OUTAGE.mul_f64(retries::time_scale()),
            _ => OUTAGE.mul_f64(TIME_SCALE),
        };
        let proxy = Proxy::start(&people.system).await;
        let state = Arc::new(Mutex::new(State::default()));
        // A step's table is away for one order only, so that other orders reach the steps behind it at the same time.
        let only = (function.kind == Kind::Step && dependency == Dependency::Table)
            .then(|| people.order_of_step(&function.name).to_string());
        proxy.decide({
            let state = Arc::clone(&state);
            move |call: &Call| {
                if only.as_ref().is_some_and(|order| !call.input.to_string().contains(order)) {
                    return Fate::Pass;
                }
                let mut state = state.lock().unwrap();
                if state.began.get_or_insert_with(Instant::now).elapsed() >= length {
                    return Fate::Pass;
                }
                state.lost += 1;
                mode.fate(dependency)
            }
        });
        Self { function, dependency, proxy, length, state }
    }

    /// The variables that direct the function's client to the proxy.
    fn variables(&self, system: &System) -> HashMap<String, String> {
        let service = match self.dependency {
            Dependency::Table => "DYNAMODB",
            Dependency::UserPool => "COGNITO_IDENTITY_PROVIDER",
            Dependency::Bus => "EVENTBRIDGE",
            Dependency::Queue => "SQS",
            Dependency::Mail => "SESV2",
            Dependency::Workflow => "SFN",
            Dependency::Directory => "SERVICEDISCOVERY",
            Dependency::UsersByRpc => "LAMBDA",
            Dependency::UsersByHttp => {
                let url = system.output("api_url").replace(system.output("endpoint_url"), &self.proxy.url);
                let fixed = [("DISCOVERY", "static".to_owned()), ("USERS_URL", url)];
                return fixed.map(|(name, value)| (name.to_owned(), value)).into();
            }
        };
        HashMap::from([(format!("AWS_ENDPOINT_URL_{service}"), self.proxy.url.clone())])
    }

    /// When it ended. The test fails if it has not ended, or if the function made no call that was lost.
    fn ended(&self) -> Instant {
        let state = self.state.lock().unwrap();
        let what = format!("{:?} of {}", self.dependency, self.function.name);
        let began = state.began.unwrap_or_else(|| panic!("the outage of {what} was not noticed"));
        let ended = began + self.length;
        assert!(ended <= Instant::now(), "the outage of {what} has not ended");
        ended
    }
}

impl Run {
    /// Runs the outages while people work, and asserts that everything is there afterwards.
    pub(crate) async fn is_outlasted(&self, mode: Mode) {
        let _alone = turn(&[CLOUD], &[]).await;
        println!("{}: {mode:?}", self.name);
        let system = System::connect().await;
        let people = Box::pin(People::meet(&system, self.parts)).await;
        let mut outages = Vec::new();
        for function in functions() {
            for (dependency, kind) in self.parts {
                if function.kind == *kind && function.reaches(*dependency) {
                    let outage = Outage::prepare(&people, function.clone(), *dependency, mode);
                    outages.push(outage.await);
                }
            }
        }
        let dead_letters = dead_letters(&system).await;
        let settings = Settings::change(&system, &outages).await;
        let work = people.while_reconciling(async {
            Box::pin(people.work()).await;
            Box::pin(people.effects_are_there()).await;
            outages.iter().map(Outage::ended).max().expect("an outage").elapsed()
        });
        let healed = finally(Box::pin(work), Box::pin(settings.restore(&system))).await;
        let more = dead_letters_since(&system, &dead_letters).await;
        assert_eq!(more, Vec::<String>::new(), "dead letters");
        let row = |outage: &Outage| Row {
            dependency: outage.dependency,
            function: outage.function.name.clone(),
            mode,
            lost: outage.state.lock().unwrap().lost,
            seen: people.saw(&outage.function),
            healed,
        };
        report::add(outages.iter().map(row).collect());
    }
}

/// The settings before a run.
struct Settings {
    environments: Environments,
    visibility_timeouts: Vec<(String, String)>,
}

impl Settings {
    /// Directs clients to the proxies, and shortens the consumers' time.
    async fn change(system: &System, outages: &[Outage]) -> Self {
        let mut variables: BTreeMap<String, HashMap<String, String>> = BTreeMap::new();
        for outage in outages {
            variables.entry(outage.function.name.clone()).or_default().extend(outage.variables(system));
        }
        let mut before = Self { environments: Vec::new(), visibility_timeouts: Vec::new() };
        for function in functions().into_iter().filter(|function| function.kind == Kind::Consumer) {
            let timeout = set_visibility_timeout(system, &function.name, VISIBILITY_TIMEOUT).await;
            before.visibility_timeouts.push((function.name.clone(), timeout));
            variables
                .entry(function.name)
                .or_default()
                .insert("TIME_SCALE".to_owned(), TIME_SCALE.to_string());
        }
        for (function, variables) in &variables {
            before.environments.extend(change_variables(system, &[function], variables).await);
        }
        before
    }

    async fn restore(self, system: &System) {
        restore_variables(system, self.environments).await;
        for (queue, timeout) in self.visibility_timeouts {
            set_visibility_timeout(system, &queue, &timeout).await;
        }
    }
}

/// Sets a queue's visibility time-out, and returns the one before.
async fn set_visibility_timeout(system: &System, queue: &str, seconds: &str) -> String {
    let sqs = aws_sdk_sqs::Client::new(&system.aws);
    let (url, name) = (system.queue(queue), QueueAttributeName::VisibilityTimeout);
    let before = sqs.get_queue_attributes().queue_url(&url).attribute_names(name.clone()).send().await;
    let before = before.expect("GetQueueAttributes").attributes.unwrap()[&name].clone();
    let set = sqs.set_queue_attributes().queue_url(&url).attributes(name, seconds);
    set.send().await.expect("SetQueueAttributes");
    before
}

/// The numbers of messages in the dead-letter queues.
pub(crate) async fn dead_letters(system: &System) -> BTreeMap<String, u32> {
    let all = functions().into_iter().filter(|function| function.dependencies.contains(&Dependency::Queue));
    let numbers = all.map(async |function| {
        let queue = format!("{}-dead-letters", function.name);
        let depth = system.depth(&queue).await;
        (queue, depth)
    });
    join_all(numbers).await.into_iter().collect()
}

/// The dead-letter queues that have more messages than before.
pub(crate) async fn dead_letters_since(system: &System, before: &BTreeMap<String, u32>) -> Vec<String> {
    let now = dead_letters(system).await;
    let more = now.into_iter().filter(|(queue, depth)| *depth > before[queue]);
    more.map(|(queue, depth)| format!("{queue}: {depth}")).collect()
}
