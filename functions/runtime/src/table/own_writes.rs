//! Recognises a write that took effect although its answer was lost.
//!
//! The SDK repeats a call that got no answer. If the first attempt took effect, the condition of the repeat fails because of it. So
//! every conditional write marks its item: an aggregate by the id of its event (`outbox.id`), any other by a random [`WRITE_ID`]. A
//! present item with this write's own mark is its success.
//!
//! If the item was changed again in between, its mark is another's, and nobody can know whether this write came first. Then the
//! caller is told that, and not that the write failed.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use aws_sdk_dynamodb::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::FinalizerInterceptorContextRef},
    error::BoxError,
    types::AttributeValue,
};
use aws_smithy_runtime_api::client::retries::RequestAttempts;

use super::{Error, Item};

/// The attribute that marks the write of an item without an event.
pub const WRITE_ID: &str = "write_id";

/// What identifies a write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mark {
    /// The id of its event.
    Event(AttributeValue),
    /// Its [`WRITE_ID`].
    Write(AttributeValue),
}

impl Mark {
    /// The mark of a write of these attributes.
    pub(super) fn of(written: &Item) -> Option<Self> {
        let write_id = || written.get(WRITE_ID).cloned().map(Self::Write);
        event_id(written).cloned().map(Self::Event).or_else(write_id)
    }

    /// Whether the item has this mark.
    fn is_on(&self, item: &Item) -> bool {
        match self {
            Self::Event(id) => event_id(item) == Some(id),
            Self::Write(id) => item.get(WRITE_ID) == Some(id),
        }
    }
}

fn event_id(item: &Item) -> Option<&AttributeValue> {
    item.get("outbox")?.as_m().ok()?.get("id")
}

/// What a failed condition means for a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The item is from this write: an earlier attempt took effect.
    Own,
    /// The write did not take effect.
    Refused,
    /// It may have taken effect before other changes.
    Unknown,
}

/// Judges a write with this mark, of the version after `version_read`, by the item that is present now.
pub(super) fn judge(
    present: Option<&Item>,
    mark: Option<&Mark>,
    version_read: Option<u64>,
    attempts: &Attempts,
) -> Judgement {
    if mark.zip(present).is_some_and(|(mark, present)| mark.is_on(present)) {
        return Judgement::Own;
    }
    let version = present.and_then(|item| item.get("version")?.as_n().ok()?.parse::<u64>().ok());
    // The next version is either this write's or another's, which is known by its mark.
    let changed_again = version.zip(version_read).is_some_and(|(version, read)| version > read + 1);
    if changed_again && attempts.repeated() { Judgement::Unknown } else { Judgement::Refused }
}

/// The error of a write of which nobody can know.
pub(super) fn unknown() -> Error {
    Error::Unavailable("the answer to this write was lost, and the item has been changed since".into())
}

/// How many attempts the SDK has made for a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts(Arc<AtomicU32>);

impl Attempts {
    fn repeated(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_after_attempt(
        &self,
        _: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(attempts) = config.load::<RequestAttempts>() {
            self.0.store(attempts.attempts(), Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn item(item: Value) -> Item {
        serde_dynamo::to_item(item).unwrap()
    }

    fn after(attempts: u32) -> Attempts {
        Attempts(Arc::new(AtomicU32::new(attempts)))
    }

    #[test]
    fn a_write_is_recognised_by_its_event_or_its_id_whatever_else_has_changed_since() {
        for written in [json!({"version": 2, "outbox": {"id": "a"}}), json!({"version": 2, "write_id": "a"})]
        {
            let mut present = written.clone();
            present["name"] = json!("another");
            // An item can have the mark of an older write of the other kind.
            if present["outbox"].is_null() {
                present["outbox"] = json!({"id": "older"});
            }
            let (written, present) = (item(written), item(present));
            assert_eq!(
                judge(Some(&present), Mark::of(&written).as_ref(), Some(1), &after(2)),
                Judgement::Own
            );
        }
    }

    #[test]
    fn a_write_that_another_came_before_is_refused() {
        let written = item(json!({"version": 2, "outbox": {"id": "a"}}));
        let present = item(json!({"version": 2, "outbox": {"id": "b"}}));
        for attempts in 1..4 {
            assert_eq!(
                judge(Some(&present), Mark::of(&written).as_ref(), Some(1), &after(attempts)),
                Judgement::Refused
            );
            assert_eq!(
                judge(None, Mark::of(&written).as_ref(), Some(1), &after(attempts)),
                Judgement::Refused
            );
        }
        assert_eq!(judge(Some(&item(json!({"version": 2}))), None, Some(1), &after(2)), Judgement::Refused);
    }

    #[test]
    fn a_repeated_write_of_an_item_that_was_changed_twice_since_is_unknown() {
        let written = item(json!({"version": 2, "outbox": {"id": "a"}}));
        let present = item(json!({"version": 3, "outbox": {"id": "b"}}));
        assert_eq!(
            judge(Some(&present), Mark::of(&written).as_ref(), Some(1), &after(1)),
            Judgement::Refused
        );
        assert_eq!(
            judge(Some(&present), Mark::of(&written).as_ref(), Some(1), &after(2)),
            Judgement::Unknown
        );
    }
}
