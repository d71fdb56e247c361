//! The envelope in which every event travels: CloudEvents 1.0 (JSON format).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock::Timestamp, id};

/// The version of the CloudEvents specification that the envelope follows.
pub const SPECVERSION: &str = "1.0";

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
