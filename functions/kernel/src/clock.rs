//! Points in time as the API writes them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A point in time, written as RFC 3339 in UTC with six digits of fraction.
///
/// Because of the fixed width, texts sort like times and can be used in a DynamoDB sort key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The current time by the system's clock, cut to microseconds.
    pub fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self::from_microsecond(now.as_microsecond())
    }

    /// The moment `microseconds` after 1970-01-01T00:00:00Z, or the epoch itself if that is out of
    /// range (the years −9999 to 9999).
    pub fn from_microsecond(microseconds: i64) -> Self {
        Self(jiff::Timestamp::from_microsecond(microseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }

    /// Whole seconds since 1970-01-01T00:00:00Z: what a DynamoDB time-to-live attribute holds.
    pub fn as_second(self) -> i64 {
        self.0.as_second()
    }

    /// Whole milliseconds since 1970-01-01T00:00:00Z.
    pub fn as_millisecond(self) -> i64 {
        self.0.as_millisecond()
    }

    /// How long ago it was. Zero if it is in the future, because another machine's clock may be ahead.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// The time since `earlier`. Zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        let microseconds = self.0.as_microsecond().saturating_sub(earlier.0.as_microsecond());
        Duration::from_micros(microseconds.try_into().unwrap_or_default())
    }

    /// The next moment that can be told from this one: a microsecond later.
    #[must_use]
    pub fn next(self) -> Self {
        Self::from_microsecond(self.0.as_microsecond().saturating_add(1))
    }

    /// The previous moment that can be told from this one: a microsecond earlier.
    #[must_use]
    pub fn previous(self) -> Self {
        Self::from_microsecond(self.0.as_microsecond().saturating_sub(1))
    }

    /// The moment `seconds` later.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self::from_microsecond(self.0.as_microsecond().saturating_add(seconds.saturating_mul(1_000_000)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.6}", self.0)
    }
}

impl From<Timestamp> for String {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.to_string()
    }
}

impl TryFrom<String> for Timestamp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse::<jiff::Timestamp>().map(Self).map_err(|error| error.to_string())
    }
}

#[cfg(feature = "contract")]
impl schemars::JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_a_fixed_width_and_sorts_like_the_times() {
        let early = Timestamp::from_microsecond(1_700_000_000_000_000);
        let late = Timestamp::from_microsecond(1_700_000_000_000_001);
        assert_eq!(early.to_string(), "2023-11-14T22:13:20.000000Z");
        assert_eq!(late.to_string(), "2023-11-14T22:13:20.000001Z");
        assert!(early.to_string() < late.to_string());
    }

    #[test]
    fn the_time_since_a_later_moment_is_zero() {
        let (early, late) = (Timestamp::from_microsecond(1), Timestamp::from_microsecond(3));
        assert_eq!(late.since(early), Duration::from_micros(2));
        assert_eq!(early.since(late), Duration::ZERO);
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let now = Timestamp::now();
        let text = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), now);
    }
}
