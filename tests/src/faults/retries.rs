//! The retries of a step, read from the state machine's definition. A test that uses them up injects as many failures.

use std::time::Duration;

use serde_json::Value;

use crate::files;

/// The retries of a step that keeps failing with one error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retries {
    /// The number of its invocations.
    pub invocations: usize,
    /// The sum of the pauses between them on the local cloud, which are not random and shorter than on AWS.
    pub pauses: Duration,
}

impl Retries {
    /// Those of the step that this function runs, if it fails with this error.
    pub fn of(function: &str, error: &str) -> Self {
        let machine = files::json("infra/order-saga.asl.json");
        let states = machine["States"].as_object().expect("states").values();
        let name = format!("${{{}}}", pascal_case(function));
        let state = states.into_iter().find(|state| state["Arguments"]["FunctionName"] == name);
        let state = state.unwrap_or_else(|| panic!("no state runs {function}"));
        let matches = |retrier: &&Value| {
            let errors = retrier["ErrorEquals"].as_array().expect("errors");
            errors.iter().any(|name| name == error || name == "States.ALL")
        };
        let retrier = state["Retry"].as_array().expect("retriers").iter().find(matches).expect("a retrier");
        Self::by(retrier, time_scale())
    }

    fn by(retrier: &Value, scale: f64) -> Self {
        let number = |name: &str, default: f64| retrier[name].as_f64().unwrap_or(default);
        let most = number("MaxDelaySeconds", f64::INFINITY);
        let retries =
            retrier["MaxAttempts"].as_u64().map_or(3, |attempts| usize::try_from(attempts).unwrap());
        let growth = number("BackoffRate", 2.0);
        let pauses = (0..retries).scan(number("IntervalSeconds", 1.0), |next, _| {
            let pause = next.min(most);
            *next = (*next * growth).min(most);
            Some(pause)
        });
        Self { invocations: retries + 1, pauses: Duration::from_secs_f64(pauses.sum::<f64>() * scale) }
    }
}

/// How many seconds a second of a pause takes on the local cloud.
pub fn time_scale() -> f64 {
    let settings = files::text("infra/local/lifecycle/cloud.py");
    let (_, scale) = settings.split_once(r#""SFN_WAIT_SCALE": ""#).expect("the emulator's scale");
    scale.split_once('"').and_then(|(scale, _)| scale.parse().ok()).expect("a number")
}

/// The name that the definition has for a function: `PaymentsCapture` for `payments-capture`.
fn pascal_case(function: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    function.split('-').map(word).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pauses_grow_to_their_maximum_and_are_scaled() {
        let retrier = json!({"IntervalSeconds": 1, "BackoffRate": 2, "MaxAttempts": 5, "MaxDelaySeconds": 5});
        let expected = Retries { invocations: 6, pauses: Duration::from_secs_f64(1.7) };
        assert_eq!(Retries::by(&retrier, 0.1), expected);
    }

    #[test]
    fn every_step_is_retried_and_a_refusal_is_not() {
        for function in crate::shop::saga()
            .into_iter()
            .filter(|name| !["orders-place", "orders-reconcile"].contains(name))
        {
            assert!(Retries::of(function, "Transient").invocations > 1, "{function}");
            assert_eq!(Retries::of(function, "Payment.Declined").invocations, 1, "{function}");
        }
    }
}
