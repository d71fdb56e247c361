//! The provider's webhooks, in Stripe's form: their signature, their event and its order.

use hmac::{Hmac, KeyInit, Mac};
use kernel::{
    clock::Timestamp,
    problem::{Kind, Problem},
};
use serde::Deserialize;
use sha2::Sha256;
use uuid::Uuid;

/// The name of the header that has the signature.
pub const SIGNATURE: &str = "stripe-signature";

/// The challenge of a webhook that is not signed. Stripe's way to authenticate has no registered scheme: it is named after the header.
pub const CHALLENGE: &str = "Stripe-Signature";

/// Maximum difference between a signature's time and now, in seconds, in either direction.
const TOLERANCE: u64 = 300;

/// Whether the header `signature` is valid for the body at time `now`. Its form is `t=<seconds since 1970>,v1=<HMAC-SHA256 of
/// "<t>.<body>">`.
///
/// There can be several `v1` while a secret is being replaced; other schemes are ignored. Without a secret no signature is
/// valid.
pub fn is_genuine(secret: Option<&str>, signature: Option<&str>, body: &[u8], now: Timestamp) -> bool {
    let (Some(secret), Some(signature)) = (secret, signature) else { return false };
    let parts = || signature.split(',').filter_map(|part| part.trim().split_once('='));
    let Some(time) = parts().find_map(|(name, value)| (name == "t").then_some(value)) else { return false };
    if !time.parse::<i64>().is_ok_and(|time| time.abs_diff(now.as_second()) <= TOLERANCE) {
        return false;
    }
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    let mac = mac.chain_update(time).chain_update(".").chain_update(body);
    // In constant time, so that the time of the answer does not reveal how much of a forgery is correct.
    parts()
        .filter_map(|(name, value)| if name == "v1" { hex::decode(value).ok() } else { None })
        .any(|claimed| mac.clone().verify_slice(&claimed).is_ok())
}

/// A webhook's event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEvent {
    /// The event's id, the same in every delivery.
    pub event_id: String,
    /// The order in the metadata of the changed object, if there is one.
    pub order_id: Option<Uuid>,
}

/// The fields of an event that are read. Its object can be a payment intent, a charge, or anything else.
#[derive(Deserialize)]
struct Event {
    id: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    order_id: Option<String>,
}

impl WebhookEvent {
    /// Reads a body whose signature has been checked; 400 if it is not an event.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        let event: Event = serde_json::from_slice(body)
            .map_err(|_| Problem::new(Kind::Unreadable, "the body is not an event"))?;
        let order_id = event.data.object.metadata.and_then(|metadata| metadata.order_id);
        Ok(Self { event_id: event.id, order_id: order_id.and_then(|id| id.parse().ok()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with Python's hmac: HMAC-SHA256 of `1700000000.{"id":"evt_1"}` under `whsec_test`.
    const SIGNED: &str = "c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925";
    const BODY: &[u8] = br#"{"id":"evt_1"}"#;
    const TIME: i64 = 1_700_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_microsecond(second * 1_000_000)
    }

    fn genuine(signature: &str) -> bool {
        is_genuine(Some("whsec_test"), Some(signature), BODY, at(TIME))
    }

    fn signed() -> String {
        format!("t={TIME},v1={SIGNED}")
    }

    #[test]
    fn a_signature_of_the_provider_is_genuine() {
        assert!(genuine(&signed()));
        assert!(genuine(&format!("t={TIME}, v0=00, v1={}", SIGNED.to_uppercase())));
    }

    #[test]
    fn one_correct_signature_of_several_is_enough() {
        let wrong = "00".repeat(32);
        assert!(genuine(&format!("t={TIME},v1={wrong},v1={SIGNED}")));
        assert!(genuine(&format!("t={TIME},v1={SIGNED},v1={wrong}")));
        assert!(!genuine(&format!("t={TIME},v1={wrong},v1={wrong}")));
    }

    #[test]
    fn a_signature_is_valid_for_five_minutes_either_way() {
        let signature = signed();
        let genuine = |now| is_genuine(Some("whsec_test"), Some(&signature), BODY, at(now));
        assert!(genuine(TIME + 300) && genuine(TIME - 300));
        assert!(!genuine(TIME + 301) && !genuine(TIME - 301));
    }

    #[test]
    fn another_secret_body_or_time_is_a_forgery() {
        let signature = signed();
        assert!(!is_genuine(Some("whsec_other"), Some(&signature), BODY, at(TIME)));
        assert!(!is_genuine(Some("whsec_test"), Some(&signature), b"{}", at(TIME)));
        assert!(!genuine(&format!("t={},v1={SIGNED}", TIME + 1)));
    }

    #[test]
    fn without_a_secret_or_a_signature_nothing_is_genuine() {
        assert!(!is_genuine(None, Some(&signed()), BODY, at(TIME)));
        assert!(!is_genuine(Some("whsec_test"), None, BODY, at(TIME)));
        let half = &SIGNED[..32];
        for bad in [
            "",
            "t=,v1=",
            &format!("t={TIME}"),
            &format!("v1={SIGNED}"),
            &format!("t={TIME},v1="),
            &format!("t={TIME},v0={SIGNED}"),
            &format!("t={TIME},v1={half}"),
            &format!("t={TIME},v1={SIGNED}0"),
            &format!("t={TIME},v1={SIGNED}00"),
            &format!("t={TIME},v1=+{}", &SIGNED[1..]),
            &format!("t={}9,v1={SIGNED}", i64::MAX),
            &format!("t={},v1={SIGNED}", i64::MIN),
            &format!("t={TIME}.0,v1={SIGNED}"),
        ] {
            assert!(!genuine(bad), "{bad}");
        }
    }

    #[test]
    fn an_event_has_its_id_and_its_order() {
        let order_id = Uuid::from_u128(1);
        let read = |object: &str| {
            let body = format!(r#"{{"id": "evt_1", "type": "x", "data": {{"object": {object}}}}}"#);
            WebhookEvent::read(body.as_bytes()).unwrap()
        };
        let event = |order_id| WebhookEvent { event_id: "evt_1".to_owned(), order_id };
        let object = format!(r#"{{"id": "pi_1", "metadata": {{"order_id": "{order_id}", "more": 1}}}}"#);
        assert_eq!(read(&object), event(Some(order_id)));
        for object in
            ["{}", r#"{"metadata": null}"#, r#"{"metadata": {}}"#, r#"{"metadata": {"order_id": "7"}}"#]
        {
            assert_eq!(read(object), event(None), "{object}");
        }
    }

    #[test]
    fn a_body_that_is_not_an_event_is_unreadable() {
        for body in ["", "{", "[]", r#"{"id": "evt_1"}"#, r#"{"data": {"object": {}}}"#] {
            assert_eq!(WebhookEvent::read(body.as_bytes()).unwrap_err().kind, Kind::Unreadable, "{body}");
        }
    }
}
