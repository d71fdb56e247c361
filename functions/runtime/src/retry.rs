//! Retries after pauses of random length.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::sleep;

/// The retries of one piece of work, as the pauses before them. Each pause has a random length up to a maximum that doubles ("full
/// jitter": <https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/>).
///
/// backon's adapter takes them if the work borrows nothing mutably; a loop whose attempts change state calls [`Self::wait`].
#[derive(Debug)]
pub struct Retries(ExponentialBackoff);

impl Retries {
    /// `count` retries; the first pause is at most `first`.
    pub fn new(first: Duration, count: usize) -> Self {
        Self(ExponentialBuilder::new().with_min_delay(first).with_factor(2.0).with_max_times(count).build())
    }

    /// Waits until the next attempt may begin; false, at once, if no retry is left.
    pub async fn wait(&mut self) -> bool {
        let Some(pause) = self.next() else { return false };
        sleep(pause).await;
        true
    }
}

impl Iterator for Retries {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|longest| longest.mul_f64(fastrand::f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_has_a_random_length_up_to_a_maximum_that_doubles() {
        const FIRST: Duration = Duration::from_millis(100);
        let drawn: Vec<Vec<Duration>> = (0..200).map(|_| Retries::new(FIRST, 2).collect()).collect();
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
