//! The envelope in which every event travels: CloudEvents 1.0 (JSON format).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock::Timestamp, id};

/// The version of the CloudEvents specification that the envelope follows.
pub const SPECVERSION: &str = "1.0";

/// What happens in one service, as an enum of its event types: it knows its names and its publisher.
pub trait Payload: Serialize {
    /// The publishing service, as CloudEvents and EventBridge `source`: `madang.<service>`.
    const SOURCE: &'static str;
    /// The names of its events.
    const TYPES: &'static [&'static str];
    /// The version of the data's schema.
    const SCHEMA_VERSION: u32 = 1;
}

/// An event.
///
/// `P` is the enum of the publisher's events; it fills the attributes `type` and `data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudEvent<P> {
    /// Always [`SPECVERSION`].
    pub specversion: String,
    /// Names this event: repeated deliveries have the same.
    pub id: Uuid,
    /// The publishing service: `madang.<service>`.
    pub source: String,
    /// The aggregate that changed.
    pub subject: Uuid,
    /// When the change was made.
    pub time: Timestamp,
    /// The aggregate's version after the change: a consumer tells stale and repeated events by it.
    pub sequence: u64,
    /// The version of the data's schema.
    pub schemaversion: u32,
    /// The trace that the change belongs to (W3C Trace Context).
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
