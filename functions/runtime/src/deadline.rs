//! The time by which work must be done.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lambda_runtime::Context;
use thiserror::Error;
use tokio::time::timeout;

/// The time left to an invocation that has no deadline: the time-out that the templates give an endpoint.
const UNKNOWN_TIME: Duration = Duration::from_secs(10);

/// The time by which an invocation must be done, because Lambda ends it then. Endpoints, consumers,
/// steps and schedules pass it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// Work ended because its time was over. What it had started may still take effect.
#[derive(Debug, Error)]
#[error("no result within {} ms", .0.as_millis())]
pub struct TimedOut(Duration);

impl Deadline {
    /// The deadline of an invocation, read at its start. `cargo lambda watch`, unlike Lambda, can name a time that has passed.
    pub(crate) fn of(context: &Context) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_millis(context.deadline).saturating_sub(now);
        Self::after(if left.is_zero() { UNKNOWN_TIME } else { left })
    }

    /// The deadline that is `time` from now.
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The deadline of a part of the work, which leaves `reserved` for the rest.
    #[must_use]
    pub fn reserving(self, reserved: Duration) -> Self {
        Self::after(self.time_left().saturating_sub(reserved))
    }

    /// Runs work until the deadline, and ends it then.
    pub async fn bound<T>(self, work: impl Future<Output = T>) -> Result<T, TimedOut> {
        let time = self.time_left();
        timeout(time, work).await.map_err(|_| TimedOut(time))
    }

    /// How long the work still has.
    pub fn time_left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The time-out of a part of the work: at most `max`, and short enough to leave `reserved` for the rest.
    pub fn time_out(self, max: Duration, reserved: Duration) -> Duration {
        max.min(self.time_left().saturating_sub(reserved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn invocation(deadline: Duration) -> Context {
        let mut context = Context::default();
        context.deadline = u64::try_from(deadline.as_millis()).unwrap();
        context
    }

    #[test]
    fn a_deadline_is_lambdas_or_ten_seconds_if_that_has_passed() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let left = Deadline::of(&invocation(now + 60 * SECOND)).time_left();
        assert!(left > 50 * SECOND && left <= 60 * SECOND, "{left:?}");
        for passed in [Duration::ZERO, now.saturating_sub(SECOND)] {
            let left = Deadline::of(&invocation(passed)).time_left();
            assert!(left > 9 * SECOND && left <= UNKNOWN_TIME, "{left:?}");
        }
    }

    #[tokio::test]
    async fn work_ends_at_its_deadline() {
        let soon = Deadline::after(Duration::from_millis(20));
        assert_eq!(soon.bound(async { 7 }).await.unwrap(), 7);
        let ended = soon.bound(std::future::pending::<()>()).await.unwrap_err();
        assert!(ended.to_string().starts_with("no result within "), "{ended}");
        let left = Deadline::after(60 * SECOND).reserving(20 * SECOND).time_left();
        assert!(left > 30 * SECOND && left <= 40 * SECOND, "{left:?}");
    }

    #[test]
    fn a_part_of_the_work_leaves_time_for_the_rest() {
        let deadline = Deadline::after(60 * SECOND);
        assert_eq!(deadline.time_out(4 * SECOND, SECOND), 4 * SECOND);
        let most = deadline.time_out(90 * SECOND, 20 * SECOND);
        assert!(most > 30 * SECOND && most <= 40 * SECOND, "{most:?}");
        assert_eq!(Deadline::after(SECOND).time_out(4 * SECOND, 2 * SECOND), Duration::ZERO);
        assert_eq!(Deadline::after(Duration::ZERO).time_left(), Duration::ZERO);
    }
}
