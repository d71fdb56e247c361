//! What each function depends on, read from the templates: a variable of its environment names each dependency.

use std::collections::{BTreeMap, BTreeSet};

use system_tests::{
    shop::{COMPENSATIONS, STEPS},
    templates,
};
use yaml_rust2::Yaml;

use crate::outage::Run;

/// Something that a function calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dependency {
    Table,
    UserPool,
    Bus,
    /// SQS: a consumer's own queue, and dead letters.
    Queue,
    Mail,
    Workflow,
    Directory,
    UsersByHttp,
    UsersByRpc,
}

/// What invokes a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Endpoint,
    Consumer,
    Relay,
    Step,
    Schedule,
}

/// Variables that name no dependency, or one that a function has with Stripe only, whose outages `tests/disruptive/stripe.rs` has.
const OTHERS: [&str; 11] = [
    "SERVICE",
    "LOG_LEVEL",
    "DISCOVERY",
    "IDENTITY_URL",
    "USER_POOL_CLIENT_ID",
    "PAYMENT_PROVIDER",
    "STRIPE_SECRET",
    "STRIPE_API_URL",
    "POSTS_PER_HOUR",
    "COMMENTS_PER_HOUR",
    "ORDERS_PER_HOUR",
];

/// Dependencies that no outage of this file reaches, with the reason.
const UNREACHED: [(&str, Dependency, &str); 2] = [
    (
        "payments-webhook",
        Dependency::Table,
        "the sandbox sends no webhooks, so that each is refused before the table is asked",
    ),
    (
        "orders-park",
        Dependency::Table,
        "the saga parks an order only after hours of failures: tests/disruptive/saga/parking.rs",
    ),
];

/// A function, and what it depends on.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) dependencies: BTreeSet<Dependency>,
}

impl Function {
    /// Whether an outage of this dependency can reach the function.
    pub(crate) fn reaches(&self, dependency: Dependency) -> bool {
        let unreached = UNREACHED.iter().any(|(name, other, _)| *name == self.name && *other == dependency);
        self.dependencies.contains(&dependency) && !unreached
    }
}

/// Every function of the templates.
pub(crate) fn functions() -> Vec<Function> {
    let mut found = Vec::new();
    for (stack, template) in templates::all() {
        let common = &template["Globals"]["Function"]["Environment"]["Variables"];
        for (_, properties) in templates::of_type(&template, "AWS::Serverless::Function") {
            let name = properties["FunctionName"].as_str().expect("a name").to_owned();
            let variables = [names(common), names(&properties["Environment"]["Variables"])].concat();
            let dependencies = variables.iter().filter_map(|variable| dependency(&stack, &name, variable));
            let dependencies = dependencies.collect();
            found.push(Function { kind: kind(&name, &variables), name, dependencies });
        }
    }
    found
}

fn names(variables: &Yaml) -> Vec<String> {
    let variables = variables.as_hash().into_iter().flatten();
    variables.map(|(name, _)| name.as_str().expect("a name").to_owned()).collect()
}

fn dependency(stack: &str, function: &str, variable: &str) -> Option<Dependency> {
    Some(match variable {
        "TABLE" => Dependency::Table,
        "USER_POOL_ID" => Dependency::UserPool,
        "EVENT_BUS" => Dependency::Bus,
        "QUEUE_URL" | "DEAD_LETTER_QUEUE_URL" => Dependency::Queue,
        "MAIL_FROM" => Dependency::Mail,
        "STATE_MACHINE" => Dependency::Workflow,
        "NAMESPACE" | "NAMESPACE_ID" => Dependency::Directory,
        "USERS_URL" => Dependency::UsersByHttp,
        "USERS_LOOKUP" => Dependency::UsersByRpc,
        other => {
            assert!(OTHERS.contains(&other), "{stack}: does {function} depend on {other}?");
            return None;
        }
    })
}

fn kind(name: &str, variables: &[String]) -> Kind {
    if variables.iter().any(|variable| variable == "QUEUE_URL") {
        Kind::Consumer
    } else if name.ends_with("-relay") {
        Kind::Relay
    } else if name == "orders-reconcile" {
        Kind::Schedule
    } else if [&STEPS[..], &COMPENSATIONS, &["orders-park"]].concat().contains(&name) {
        Kind::Step
    } else {
        Kind::Endpoint
    }
}

/// The functions' dependencies that no run has and that have no reason for it, and the reasons that are not needed.
pub(crate) fn uncovered(runs: &[Run]) -> Vec<String> {
    let parts: BTreeSet<_> = runs.iter().flat_map(|run| run.parts.iter().copied()).collect();
    let all: BTreeMap<String, Function> =
        functions().into_iter().map(|function| (function.name.clone(), function)).collect();
    let mut uncovered = Vec::new();
    for function in all.values() {
        let missing = function.dependencies.iter().filter(|dependency| {
            function.reaches(**dependency) && !parts.contains(&(**dependency, function.kind))
        });
        uncovered.extend(missing.map(|dependency| format!("{dependency:?} of {}", function.name)));
    }
    let unneeded = UNREACHED.iter().filter(|(name, dependency, _)| {
        !all.get(*name).is_some_and(|function| function.dependencies.contains(dependency))
    });
    uncovered.extend(unneeded.map(|(name, dependency, _)| format!("{name} has no {dependency:?}")));
    uncovered
}
