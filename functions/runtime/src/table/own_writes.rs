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
use kernel::id;

use super::{Condition, Error, Item};

/// The attribute that marks the write of an item without an event.
const WRITE_ID: &str = "write_id";

/// What identifies a write.
#[derive(Clone, Debug)]
enum Mark {
    /// The id of its event.
    Event(AttributeValue),
    /// Its [`WRITE_ID`].
    Write(AttributeValue),
}

impl Mark {
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
#[derive(Debug)]
pub(super) enum Judgement {
    /// An earlier attempt took effect: this is the item that it wrote.
    Own(Item),
    /// The write did not take effect; this is the present item, if there is one.
    Refused(Option<Item>),
}

/// A conditional write that recognises itself.
#[derive(Debug)]
pub(super) struct OwnWrite {
    mark: Mark,
    version_read: Option<u64>,
    attempts: Attempts,
}

impl OwnWrite {
    /// A write of these attributes, which are marked unless they have an event.
    pub(super) fn of(written: &mut Item, condition: &Condition) -> Self {
        let event = event_id(written).cloned().map(Mark::Event);
        let mark = event.unwrap_or_else(|| {
            let id = AttributeValue::S(id::new().to_string());
            written.insert(WRITE_ID.to_owned(), id.clone());
            Mark::Write(id)
        });
        Self { mark, version_read: condition.version_read(), attempts: Attempts::default() }
    }

    /// Counts the attempts of the call.
    pub(super) fn attempts(&self) -> Attempts {
        self.attempts.clone()
    }

    /// Judges a failed condition by the item that is present. It is an error if the write may have taken effect before other changes.
    pub(super) fn judge(&self, present: Option<Item>) -> Result<Judgement, Error> {
        let present = match present {
            Some(item) if self.mark.is_on(&item) => return Ok(Judgement::Own(item)),
            present => present,
        };
        let version = present.as_ref().and_then(|item| item.get("version")?.as_n().ok()?.parse::<u64>().ok());
        // The next version is either this write's or another's, which is known by its mark.
        let changed_again = version.zip(self.version_read).is_some_and(|(version, read)| version > read + 1);
        if changed_again && self.attempts.repeated() {
            let reason = "the answer to this write was lost, and the item has been changed since";
            return Err(Error::Unavailable(reason.into()));
        }
        Ok(Judgement::Refused(present))
    }
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

    /// A write of these attributes as the version after 1, after this many attempts; and the attributes with their mark.
    fn given_a_write(attributes: Value, attempts: u32) -> (OwnWrite, Item) {
        let mut written = item(attributes);
        let write = OwnWrite::of(&mut written, &Condition::version(1));
        write.attempts.0.store(attempts, Ordering::Relaxed);
        (write, written)
    }

    #[test]
    fn a_write_is_recognised_by_its_event_or_its_id_whatever_else_has_changed_since() {
        for attributes in [json!({"version": 2, "outbox": {"id": "a"}}), json!({"version": 2})] {
            let (write, mut present) = given_a_write(attributes, 2);
            present.insert("name".to_owned(), AttributeValue::S("another".to_owned()));
            // An item can have the mark of an older write of the other kind.
            let older = item(json!({"outbox": {"id": "older"}, "write_id": "older"}));
            for (name, mark) in older {
                present.entry(name).or_insert(mark);
            }
            assert!(matches!(write.judge(Some(present)), Ok(Judgement::Own(_))));
        }
    }

    #[test]
    fn a_write_that_another_came_before_is_refused() {
        let event = json!({"version": 2, "outbox": {"id": "a"}});
        for (attributes, attempts) in [(event.clone(), 1), (event, 3), (json!({"version": 2}), 2)] {
            let (write, _) = given_a_write(attributes, attempts);
            let present = item(json!({"version": 2, "outbox": {"id": "b"}, "write_id": "b"}));
            assert!(matches!(write.judge(Some(present)), Ok(Judgement::Refused(Some(_)))));
            assert!(matches!(write.judge(None), Ok(Judgement::Refused(None))));
        }
    }

    #[test]
    fn a_repeated_write_of_an_item_that_was_changed_twice_since_is_unknown() {
        let present = || Some(item(json!({"version": 3, "outbox": {"id": "b"}})));
        let (once, _) = given_a_write(json!({"version": 2, "outbox": {"id": "a"}}), 1);
        assert!(matches!(once.judge(present()), Ok(Judgement::Refused(Some(_)))));
        let (repeated, _) = given_a_write(json!({"version": 2, "outbox": {"id": "a"}}), 2);
        assert!(matches!(repeated.judge(present()), Err(Error::Unavailable(_))));
    }
}
