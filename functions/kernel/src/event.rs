//! The envelope in which every event travels: CloudEvents 1.0 (JSON format).
//!
//! A consumer reads an event in two steps: first the envelope ([`Envelope`]), which says whether it knows this kind of event and this
//! version of its data at all, then the data. So an event of a later version is refused because of its version, and not because of a
//! field that happens to be missing.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::{clock::Timestamp, id};

/// The version of the CloudEvents specification that the envelope follows.
pub const SPECVERSION: &str = "1.0";

/// Maximum `sequence` of an event that a consumer applies.
///
/// A consumer's copy of something takes no event whose sequence is smaller than the last, so a sequence that is too large would freeze
/// the copy. A sequence is a version, which grows by one with each write: a thousand million writes of one item, one a second, take
/// over thirty years. What a faulty publisher would send instead of a version, the time in seconds since 1970 or a smaller unit, is
/// larger.
pub const MAX_SEQUENCE: u64 = 1_000_000_000;

/// The form of a `traceparent`, as a regular expression.
#[cfg(feature = "contract")]
const TRACEPARENT: &str = "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$";

/// The events of one service: an enum that knows their names and their publisher.
pub trait Payload: Serialize {
    /// The publishing service, as CloudEvents and EventBridge `source`: `madang.<service>`.
    const SOURCE: &'static str;
    /// The name of the aggregate's id, an event's `subject`, among other ids: `post_id`.
    const SUBJECT: &'static str;
    /// The names of its events.
    const TYPES: &'static [&'static str];
    /// The version of the data's schema.
    const SCHEMA_VERSION: u32 = 1;

    /// The aggregate's id in the event's data, which is the event's `subject`.
    fn subject(&self) -> Uuid;
}

/// An event.
///
/// `P` is the enum of the publisher's events; it fills the attributes `type` and `data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct CloudEvent<P> {
    /// The version of the CloudEvents specification.
    pub specversion: String,
    /// The event's id, the same in every delivery.
    pub id: Uuid,
    /// The publishing service: `madang.<service>`.
    pub source: String,
    /// The aggregate that changed.
    pub subject: Uuid,
    /// When the change was made.
    pub time: Timestamp,
    /// The aggregate's version after the change, by which consumers recognise stale and repeated events.
    #[cfg_attr(feature = "contract", schemars(range(min = 1)))]
    pub sequence: u64,
    /// The version of the data's schema.
    pub schemaversion: u32,
    /// The trace that the change belongs to (W3C Trace Context).
    #[cfg_attr(feature = "contract", schemars(regex(pattern = TRACEPARENT)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The attributes `type` and `data`.
    #[serde(flatten)]
    pub payload: P,
}

impl<P: Payload> CloudEvent<P> {
    /// The event of a change that was made to `subject` at `time` and left it at version `sequence`.
    pub fn new(subject: Uuid, sequence: u64, time: Timestamp, payload: P) -> Self {
        debug_assert_eq!(subject, payload.subject(), "an event is about the aggregate in its data");
        Self {
            specversion: SPECVERSION.to_owned(),
            id: id::new(),
            source: P::SOURCE.to_owned(),
            subject,
            time,
            sequence,
            schemaversion: P::SCHEMA_VERSION,
            traceparent: None,
            payload,
        }
    }
}

/// An event of which all but the data was read.
pub type Envelope = CloudEvent<TypeOnly>;

/// The attribute `type` without the data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TypeOnly {
    /// The event's name: `post.created`.
    #[serde(rename = "type")]
    pub event_type: String,
}

/// Why a consumer does not apply an event: the attribute, and what is wrong with it. No text of the event is quoted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{attribute} {wrong}")]
pub struct Unknown {
    /// The attribute.
    pub attribute: &'static str,
    /// What is wrong with it: `is 2, but only 1 is known`.
    pub wrong: String,
}

impl Envelope {
    /// Checks that it is an event of `P`, in the version that `P` describes, with a sequence that a version can have.
    pub fn check<P: Payload>(&self) -> Result<(), Unknown> {
        let unknown = |attribute, wrong| Err(Unknown { attribute, wrong });
        if self.specversion != SPECVERSION {
            return unknown("specversion", format!("is not {SPECVERSION}"));
        }
        if self.source != P::SOURCE {
            return unknown("source", format!("is not {}", P::SOURCE));
        }
        if !P::TYPES.contains(&self.payload.event_type.as_str()) {
            return unknown("type", format!("is none of the events of {}", P::SOURCE));
        }
        if self.schemaversion != P::SCHEMA_VERSION {
            return unknown(
                "schemaversion",
                format!("is {}, but only {} is known", self.schemaversion, P::SCHEMA_VERSION),
            );
        }
        if !(1..=MAX_SEQUENCE).contains(&self.sequence) {
            return unknown(
                "sequence",
                format!("is {}, but must be from 1 to {MAX_SEQUENCE}", self.sequence),
            );
        }
        Ok(())
    }

    /// The whole event, with its data.
    pub fn with<P: Payload>(self, payload: P) -> Result<CloudEvent<P>, Unknown> {
        if self.subject != payload.subject() {
            let wrong = format!("is not the {} in the data", P::SUBJECT);
            return Err(Unknown { attribute: "subject", wrong });
        }
        let Self { specversion, id, source, subject, time, sequence, schemaversion, traceparent, payload: _ } =
            self;
        Ok(CloudEvent {
            specversion,
            id,
            source,
            subject,
            time,
            sequence,
            schemaversion,
            traceparent,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ROOM: Uuid = Uuid::from_u128(7);

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(tag = "type", content = "data")]
    enum RoomEvent {
        #[serde(rename = "room.opened")]
        Opened { id: Uuid },
    }

    impl Payload for RoomEvent {
        const SOURCE: &'static str = "madang.rooms";
        const SUBJECT: &'static str = "room_id";
        const TYPES: &'static [&'static str] = &["room.opened"];

        fn subject(&self) -> Uuid {
            let Self::Opened { id } = self;
            *id
        }
    }

    fn given_an_event() -> CloudEvent<RoomEvent> {
        CloudEvent::new(ROOM, 1, Timestamp::now(), RoomEvent::Opened { id: ROOM })
    }

    /// The attribute because of which a consumer does not apply the event after this change, and why.
    fn refused(attribute: &str, value: Value) -> Option<(&'static str, String)> {
        let mut event = serde_json::to_value(given_an_event()).unwrap();
        event[attribute] = value;
        let envelope: Envelope = serde_json::from_value(event).unwrap();
        let unknown = envelope.check::<RoomEvent>().err()?;
        Some((unknown.attribute, unknown.to_string()))
    }

    #[test]
    fn an_event_is_the_same_after_it_was_read_in_two_steps() {
        let event = given_an_event();
        let json = serde_json::to_value(&event).unwrap();
        let envelope: Envelope = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(envelope.check::<RoomEvent>(), Ok(()));
        assert_eq!(envelope.with(serde_json::from_value::<RoomEvent>(json).unwrap()), Ok(event));
    }

    #[test]
    fn an_event_that_this_code_does_not_know_is_refused_because_of_the_attribute() {
        for (attribute, value, reason) in [
            ("specversion", json!("0.3"), "specversion is not 1.0"),
            ("specversion", json!("2.0"), "specversion is not 1.0"),
            ("source", json!("madang.posts"), "source is not madang.rooms"),
            ("type", json!("room.closed"), "type is none of the events of madang.rooms"),
            ("schemaversion", json!(0), "schemaversion is 0, but only 1 is known"),
            ("schemaversion", json!(2), "schemaversion is 2, but only 1 is known"),
        ] {
            assert_eq!(refused(attribute, value).map(|(_, reason)| reason).as_deref(), Some(reason));
        }
    }

    #[test]
    fn a_sequence_that_no_version_can_have_is_refused() {
        for possible in [1, 2, MAX_SEQUENCE] {
            assert_eq!(refused("sequence", json!(possible)), None, "{possible}");
        }
        // Nothing, the time in seconds, in microseconds, and the largest number.
        for impossible in [0, MAX_SEQUENCE + 1, 1_700_000_000, 1_700_000_000_000_000, u64::MAX] {
            let (attribute, _) = refused("sequence", json!(impossible)).expect("a refusal");
            assert_eq!(attribute, "sequence", "{impossible}");
        }
    }

    #[test]
    fn a_subject_other_than_the_id_in_the_data_is_refused() {
        let mut event = serde_json::to_value(given_an_event()).unwrap();
        event["subject"] = json!(Uuid::from_u128(8));
        let envelope: Envelope = serde_json::from_value(event).unwrap();
        let refusal = envelope.with(RoomEvent::Opened { id: ROOM }).unwrap_err();
        assert_eq!(refusal.to_string(), "subject is not the room_id in the data");
    }
}
