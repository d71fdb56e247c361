//! Retries: how often, and after what pause.

use std::time::Duration;

use backon::{Backoff, BackoffBuilder, ExponentialBuilder};
use tokio::time::sleep;

/// Pauses between attempts, each of random length up to a maximum that doubles ("full jitter":
/// <https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/>). The first is at most `first`, and there
/// are `count` of them.
pub fn pauses(first: Duration, count: usize) -> impl Backoff {
    let longest = ExponentialBuilder::new().with_min_delay(first).with_factor(2.0).with_max_times(count);
    longest.build().map(|pause| pause.mul_f64(fastrand::f64()))
}

/// Retries for a loop whose attempts change state. backon's own adapter does not accept work that borrows mutably.
pub struct Retries(Box<dyn Backoff>);

impl Retries {
    /// `count` retries, with [`pauses`] of at most `first` before the first of them.
    pub fn new(first: Duration, count: usize) -> Self {
        Self(Box::new(pauses(first, count)))
    }

    /// Waits until the next attempt may begin; false, at once, if no retry is left.
    pub async fn wait(&mut self) -> bool {
        let Some(pause) = self.0.next() else { return false };
        sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_has_a_random_length_up_to_a_maximum_that_doubles() {
        const FIRST: Duration = Duration::from_millis(100);
        let drawn: Vec<Vec<Duration>> = (0..200).map(|_| pauses(FIRST, 2).collect()).collect();
        assert!(drawn.iter().all(|pauses| pauses.len() == 2));
        for (place, longest) in [(0, FIRST), (1, FIRST * 2)] {
            let all = || drawn.iter().map(|pauses| pauses[place]);
            assert!(all().max().unwrap() <= longest && all().max().unwrap() > longest.mul_f64(0.8));
            assert!(all().min().unwrap() < longest.mul_f64(0.2), "full jitter begins at nothing");
        }
    }

    #[tokio::test]
    async fn there_are_as_many_retries_as_asked_for() {
        let mut retries = Retries::new(Duration::from_millis(1), 2);
        assert!(retries.wait().await);
        assert!(retries.wait().await);
        assert!(!retries.wait().await);
    }
}
