//! The running system while an AWS service fails, and how few calls of AWS it makes. Only copies of functions are affected.

mod bad_input;
mod black_holes;
mod calls;
mod cascades;
mod logs;
mod lost_answers;
mod permissions;
mod refusals;
mod relay;
mod starts;

use serde_json::{Value, json};
use system_tests::faults::{Invoked, lines};

/// Asserts that an endpoint has answered with this server error, has logged one line about it, and has counted it.
fn assert_told(invoked: &Invoked, endpoint: &str, status: u16, problem: &str) {
    invoked.http().is_problem(status, problem);
    let all = lines(&invoked.log);
    assert!(all.iter().all(|line| line["message"] != "panicked"), "{endpoint}: {}", invoked.log);
    let ours = status >= 500;
    let (message, level, metric) =
        if ours { ("failed", "ERROR", "ServerErrors") } else { ("refused", "INFO", "ClientErrors") };
    let failed: Vec<&Value> = all.iter().filter(|line| line["message"] == message).collect();
    let [line] = failed.as_slice() else { panic!("{endpoint}: expected one line: {}", invoked.log) };
    assert!(line["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
    let (method, route) = endpoint.split_once(' ').unwrap();
    let told = ["level", "method", "route", "status", "problem"].map(|name| &line[name]);
    let expected = [json!(level), json!(method), json!(route), json!(status), json!(problem)];
    assert_eq!(told, expected.each_ref(), "{line}");
    let counted: Vec<&Value> = all.iter().filter(|line| !line[metric].is_null()).collect();
    let [counted] = counted.as_slice() else { panic!("{endpoint}: expected one metric: {}", invoked.log) };
    assert_eq!(counted["endpoint"], endpoint, "{counted}");
    // One value is a number or a list of one.
    let value = counted[metric].as_f64().or_else(|| counted[metric].as_array()?[0].as_f64());
    assert_eq!(value, Some(1.0), "{counted}");
}
