//! Outages of an hour: a dependency of the running system's functions refuses every call, or swallows it, while people sign up,
//! write, comment, rename themselves, order and leave. Then it returns. In the end everything is as if it had never been away:
//! no dead letter, no order rejected, every effect once.
//!
//! An hour takes 36 seconds here, because `TIME_SCALE` shortens the consumers' retries, and the local cloud the saga's. The steps
//! before an order is confirmed lose their dependencies for nine minutes, because ten are outlasted there. Each function's outage begins with its first call, so that those
//! at the end of a pipeline have theirs, too.
//!
//! `make outages` runs them. They need the whole system for half an hour, so that nothing may run beside them. They print a table: what each function lost, what people
//! saw meanwhile, and how long it took until all effects were there.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test may do this")]

mod deletion;
mod dependencies;
mod outage;
mod people;
mod report;

use self::{
    dependencies::{Dependency, Kind, uncovered},
    outage::Run,
};

/// The outages. Those of one run do not hide each other: no function of one waits for a function of another.
const RUNS: [Run; 8] = [
    Run { name: "tables of endpoints", parts: &[(Dependency::Table, Kind::Endpoint)] },
    Run { name: "tables of consumers", parts: &[(Dependency::Table, Kind::Consumer)] },
    Run {
        name: "tables of steps and schedules",
        parts: &[(Dependency::Table, Kind::Step), (Dependency::Table, Kind::Schedule)],
    },
    Run { name: "bus", parts: &[(Dependency::Bus, Kind::Relay)] },
    Run { name: "queues", parts: &[(Dependency::Queue, Kind::Consumer), (Dependency::Queue, Kind::Relay)] },
    Run {
        name: "user pool, mail and state machine",
        parts: &[
            (Dependency::UserPool, Kind::Endpoint),
            (Dependency::UserPool, Kind::Consumer),
            (Dependency::Mail, Kind::Consumer),
            (Dependency::Workflow, Kind::Endpoint),
            (Dependency::Workflow, Kind::Schedule),
        ],
    },
    Run {
        name: "Cloud Map",
        parts: &[
            (Dependency::Directory, Kind::Endpoint),
            (Dependency::Directory, Kind::Consumer),
            (Dependency::Directory, Kind::Step),
        ],
    },
    Run {
        name: "users by HTTP and by RPC",
        parts: &[
            (Dependency::UsersByHttp, Kind::Consumer),
            (Dependency::UsersByHttp, Kind::Step),
            (Dependency::UsersByRpc, Kind::Endpoint),
        ],
    },
];

#[test]
fn every_dependency_of_every_function_has_an_outage() {
    assert_eq!(uncovered(&RUNS), Vec::<String>::new());
}

/// Runs the outages of this name, in both modes.
async fn outlasted(name: &str) {
    let run = RUNS.iter().find(|run| run.name == name).expect("a run");
    for mode in outage::Mode::BOTH {
        Box::pin(run.is_outlasted(mode)).await;
    }
}

#[tokio::test]
#[ignore = "takes minutes, and needs the system for itself"]
async fn people_and_their_clients_outlast_an_hour_without_the_endpoints_tables() {
    outlasted("tables of endpoints").await;
}

#[tokio::test]
#[ignore = "takes minutes, and needs the system for itself"]
async fn events_outlast_an_hour_without_the_consumers_tables() {
    outlasted("tables of consumers").await;
}

#[tokio::test]
#[ignore = "takes minutes, and needs the system for itself"]
async fn orders_outlast_the_absence_of_any_steps_table() {
    outlasted("tables of steps and schedules").await;
}

#[tokio::test]
#[ignore = "takes minutes, and needs the system for itself"]
async fn events_outlast_an_hour_without_the_bus() {
    outlasted("bus").await;
}

#[tokio::test]
#[ignore = "takes minutes, and needs the system for itself"]
async fn events_outlast_an_hour_in_which_queues_accept_nothing() {
    outlasted("queues").await;
}

#[tokio::test]
#[ignore = "takes minutes, and needs the system for itself"]
async fn logins_mails_and_orders_outlast_an_hour_without_user_pool_mail_and_state_machine() {
    outlasted("user pool, mail and state machine").await;
}

#[tokio::test]
#[ignore = "takes minutes, and needs the system for itself"]
async fn calls_between_services_outlast_an_hour_without_cloud_map() {
    outlasted("Cloud Map").await;
}

#[tokio::test]
#[ignore = "takes minutes, and needs the system for itself"]
async fn mails_orders_and_posts_outlast_an_hour_without_users() {
    outlasted("users by HTTP and by RPC").await;
}
