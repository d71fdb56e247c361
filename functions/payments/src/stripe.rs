//! Stripe's API, as far as payments with a separate capture need it: a `PaymentIntent` is created, confirmed, captured,
//! cancelled, refunded and read.
//!
//! Calls that create something, an intent or a refund, have an `Idempotency-Key` that is derived from the order, so that a
//! repeat does not create a second one. Calls that change an intent's status have none. Stripe refuses a change that does not
//! fit the status, so that a repeat is harmless. With a key Stripe would repeat its first answer for a day, even if that was
//! a failure of its own, and nothing could be captured until then.
//!
//! If a call is refused, or its result is not known, the intent itself is read.

use std::time::Duration;

use kernel::{address::BaseUrl, money::Money};
use reqwest::{Client, RequestBuilder, StatusCode, redirect::Policy};
use runtime::{
    aws::secrets,
    environment,
    error::{Unreadable, read_json},
    telemetry,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    error::ProviderError,
    payment::{IntentStatus, Prepared, ProviderRequest, Purchase},
};

/// The version of the API whose fields are read here. Sent with every call, because the account's version may be raised.
const API_VERSION: &str = "2024-06-20";

/// Time-out of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Time-out of a call. A step makes at most four in its twenty seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// The account's keys, in the form of the secret.
#[derive(Deserialize)]
pub struct Keys {
    /// The key of the API.
    pub secret_key: String,
    /// The secret that webhooks are signed with.
    pub webhook_secret: String,
}

/// Stripe.
pub struct Stripe {
    client: Client,
    base: BaseUrl,
    keys: Keys,
}

/// The fields of a `PaymentIntent` that are read.
#[derive(Debug, Deserialize)]
struct PaymentIntent {
    id: String,
    status: String,
    last_payment_error: Option<ApiError>,
    /// Only its id, unless the request expands it.
    latest_charge: Option<Value>,
}

/// The fields of an error that are read.
#[derive(Debug, Default, Deserialize)]
struct ApiError {
    #[serde(default, rename = "type")]
    kind: String,
    code: Option<String>,
    decline_code: Option<String>,
    param: Option<String>,
}

impl ApiError {
    /// Why a card was declined.
    fn decline(self) -> String {
        self.decline_code.or(self.code).unwrap_or_else(|| "card_declined".to_owned())
    }

    /// Why nothing can be prepared, if the buyer can fix it: the payment method, or an amount that cards cannot be charged with.
    fn unacceptable(&self) -> Option<String> {
        let code = self.code.as_deref().unwrap_or("payment_method_invalid");
        let of_the_amount = ["amount_too_small", "amount_too_large"].contains(&code);
        (of_the_amount || self.param.as_deref() == Some("payment_method")).then(|| code.to_owned())
    }
}

#[derive(Default, Deserialize)]
struct Failed {
    #[serde(default)]
    error: ApiError,
}

/// Stripe's response to a call.
enum Response<T> {
    Done(T),
    Refused(StatusCode, ApiError),
}

/// A refusal without an explanation.
fn broken(status: StatusCode, error: &ApiError) -> ProviderError {
    let (kind, code) = (&error.kind, error.code.as_deref().unwrap_or("-"));
    let param = error.param.as_deref().unwrap_or("-");
    ProviderError::Broken(format!("Stripe answered {status}: type {kind}, code {code}, param {param}").into())
}

impl PaymentIntent {
    fn intent_status(self) -> IntentStatus {
        match self.status.as_str() {
            "requires_capture" => IntentStatus::Held,
            "succeeded" if self.latest_charge.is_some_and(|charge| charge["refunded"] == true) => {
                IntentStatus::Refunded
            }
            "succeeded" => IntentStatus::Captured,
            "canceled" => IntentStatus::Cancelled,
            // Every intent is created with a payment method. If the intent no longer has one, it was declined.
            "requires_payment_method" => {
                IntentStatus::Declined { code: self.last_payment_error.unwrap_or_default().decline() }
            }
            // The issuer requires a confirmation by the buyer, who is not present.
            "requires_action" => IntentStatus::Declined { code: "authentication_required".to_owned() },
            _ => IntentStatus::Open,
        }
    }
}

impl Stripe {
    /// Connects to the API that `STRIPE_API_URL` names, with the keys of the secret that `STRIPE_SECRET` names.
    pub async fn connect() -> Result<Self, runtime::Error> {
        let base = environment::required("STRIPE_API_URL")?.parse();
        let base = base.map_err(|error| format!("STRIPE_API_URL {error}"))?;
        Self::new(base, secrets::read(&environment::required("STRIPE_SECRET")?).await?)
    }

    /// The API at this URL, with these keys.
    pub fn new(base: BaseUrl, keys: Keys) -> Result<Self, runtime::Error> {
        // Anyone can sign with an empty key.
        if keys.secret_key.is_empty() || keys.webhook_secret.is_empty() {
            return Err("the secret that STRIPE_SECRET names has an empty key".into());
        }
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            // The keys are sent to Stripe and nowhere else.
            .redirect(Policy::none())
            .build()?;
        Ok(Self { client, base, keys })
    }

    /// The secret that webhooks are signed with.
    pub fn webhook_secret(&self) -> &str {
        &self.keys.webhook_secret
    }

    /// Creates an intent.
    pub async fn prepare(&self, purchase: &Purchase) -> Result<Prepared, ProviderError> {
        let Some(form) = intent(purchase) else {
            return Ok(Prepared::Declined { code: "amount_not_payable".to_owned() });
        };
        let request = self.creating("payment_intents", purchase.order_id, "intent").form(&form);
        match self.send::<PaymentIntent>(request).await? {
            Response::Done(intent) => Ok(Prepared::Intent(intent.id)),
            Response::Refused(status, error) => match error.unacceptable() {
                Some(code) => Ok(Prepared::Declined { code }),
                None if status == StatusCode::PAYMENT_REQUIRED => {
                    Ok(Prepared::Declined { code: error.decline() })
                }
                None => Err(broken(status, &error)),
            },
        }
    }

    /// Carries out a request and returns the status of the intent afterwards.
    pub async fn ask(
        &self,
        request: ProviderRequest,
        order_id: Uuid,
        reference: &str,
    ) -> Result<IntentStatus, ProviderError> {
        match request {
            ProviderRequest::Authorize => self.confirm(reference).await,
            ProviderRequest::Capture => self.capture(reference).await,
            ProviderRequest::Cancel => self.cancel(order_id, reference).await,
            ProviderRequest::Status => self.status(reference).await,
        }
    }

    /// Confirms the intent, which holds the money. The payment method is not sent again, because that would try a declined card
    /// once more.
    async fn confirm(&self, reference: &str) -> Result<IntentStatus, ProviderError> {
        match self.advance(reference, "confirm").await? {
            Response::Done(intent) => Ok(intent.intent_status()),
            Response::Refused(StatusCode::PAYMENT_REQUIRED, error) => {
                Ok(IntentStatus::Declined { code: error.decline() })
            }
            Response::Refused(status, error) => match self.status(reference).await? {
                IntentStatus::Open => Err(broken(status, &error)),
                intent => Ok(intent),
            },
        }
    }

    async fn capture(&self, reference: &str) -> Result<IntentStatus, ProviderError> {
        match self.advance(reference, "capture").await? {
            Response::Done(intent) => Ok(intent.intent_status()),
            Response::Refused(status, error) => match self.status(reference).await? {
                IntentStatus::Held => Err(broken(status, &error)),
                intent => Ok(intent),
            },
        }
    }

    /// Compensates preparing, confirming and capturing.
    pub async fn cancel(&self, order_id: Uuid, reference: &str) -> Result<IntentStatus, ProviderError> {
        match self.advance(reference, "cancel").await? {
            Response::Done(intent) => Ok(intent.intent_status()),
            Response::Refused(status, error) => match self.status(reference).await? {
                IntentStatus::Captured => self.refund(order_id, reference).await,
                intent @ (IntentStatus::Cancelled | IntentStatus::Refunded) => Ok(intent),
                _ => Err(broken(status, &error)),
            },
        }
    }

    async fn refund(&self, order_id: Uuid, reference: &str) -> Result<IntentStatus, ProviderError> {
        let request = self.creating("refunds", order_id, "refund").form(&[("payment_intent", reference)]);
        match self.send::<Refund>(request).await? {
            // The issuer still handles a `pending` refund; Stripe reports the result by webhook.
            Response::Done(refund) if matches!(refund.status.as_str(), "succeeded" | "pending") => {
                Ok(IntentStatus::Refunded)
            }
            Response::Done(refund) => {
                Err(ProviderError::Broken(format!("Stripe's refund is {}", refund.status).into()))
            }
            Response::Refused(status, error) => match self.status(reference).await? {
                IntentStatus::Refunded => Ok(IntentStatus::Refunded),
                _ => Err(broken(status, &error)),
            },
        }
    }

    async fn status(&self, reference: &str) -> Result<IntentStatus, ProviderError> {
        let path = format!("payment_intents/{reference}?expand[]=latest_charge");
        match self.send::<PaymentIntent>(self.client.get(self.url(&path))).await? {
            Response::Done(intent) => Ok(intent.intent_status()),
            Response::Refused(status, error) => Err(broken(status, &error)),
        }
    }

    async fn advance(&self, reference: &str, verb: &str) -> Result<Response<PaymentIntent>, ProviderError> {
        let url = self.url(&format!("payment_intents/{reference}/{verb}"));
        self.send(self.client.post(url).form::<[(&str, &str)]>(&[])).await
    }

    fn creating(&self, path: &str, order_id: Uuid, what: &str) -> RequestBuilder {
        self.client.post(self.url(path)).header("idempotency-key", format!("{order_id}-{what}"))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.base)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Response<T>, ProviderError> {
        let outcome = |response: &Result<Response<T>, ProviderError>| match response {
            Ok(Response::Done(_)) => None,
            Ok(Response::Refused(status, _)) => Some(status.as_u16().to_string()),
            Err(_) => Some("NoAnswer".to_owned()),
        };
        telemetry::in_span("Stripe", outcome, self.call(request)).await
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Response<T>, ProviderError> {
        let request = request.bearer_auth(&self.keys.secret_key).header("stripe-version", API_VERSION);
        let response = request.send().await.map_err(unknown)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unknown)?;
        if status.is_success() {
            let malformed = |error| format!("Stripe's response cannot be read: {error}");
            let read =
                read_json(&body).map_err(|error: Unreadable| ProviderError::Broken(malformed(error).into()));
            return read.map(Response::Done);
        }
        let error = serde_json::from_slice::<Failed>(&body).unwrap_or_default().error;
        match status {
            // A concurrent call with the same key, too many calls, or a failure of Stripe's.
            StatusCode::CONFLICT | StatusCode::FAILED_DEPENDENCY | StatusCode::TOO_MANY_REQUESTS => {
                Err(ProviderError::Unavailable(format!("Stripe answered {status}").into()))
            }
            _ if status.is_server_error() => {
                Err(ProviderError::Unavailable(format!("Stripe answered {status}").into()))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(broken(status, &error)),
            _ => Ok(Response::Refused(status, error)),
        }
    }
}

/// A refund at Stripe.
#[derive(Deserialize)]
struct Refund {
    status: String,
}

/// No answer, so it is unknown whether the call took effect.
fn unknown(error: reqwest::Error) -> ProviderError {
    ProviderError::Unavailable(error.without_url().into())
}

/// The form that creates an intent; `None` if the amount cannot be expressed at Stripe.
fn intent(purchase: &Purchase) -> Option<[(&'static str, String); 6]> {
    Some([
        ("amount", units(purchase.amount)?.to_string()),
        ("currency", purchase.amount.currency.code().to_ascii_lowercase()),
        ("capture_method", "manual".to_owned()),
        ("payment_method", purchase.payment_method.clone()),
        // Only cards can be held without redirecting the buyer.
        ("payment_method_types[]", "card".to_owned()),
        ("metadata[order_id]", purchase.order_id.to_string()),
    ])
}

/// An amount in Stripe's units of its currency: the minor units of ISO 4217, except for some currencies
/// (<https://docs.stripe.com/currencies#special-cases>). `None` if it is not a whole number of them.
fn units(money: Money) -> Option<i64> {
    match money.currency.code() {
        "ISK" | "UGX" => money.amount.checked_mul(100),
        "MGA" => (money.amount % 100 == 0).then_some(money.amount / 100),
        // Three decimals, of which Stripe requires the last to be zero.
        "BHD" | "JOD" | "KWD" | "OMR" | "TND" => (money.amount % 10 == 0).then_some(money.amount),
        _ => Some(money.amount),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn purchase(amount: i64, currency: &str) -> Purchase {
        Purchase {
            order_id: Uuid::from_u128(1),
            buyer_id: Uuid::from_u128(2),
            amount: serde_json::from_value(json!({"amount": amount, "currency": currency})).unwrap(),
            payment_method: "pm_card_visa".to_owned(),
        }
    }

    fn stripe() -> Stripe {
        let keys = Keys { secret_key: "sk_test_1".to_owned(), webhook_secret: "whsec_1".to_owned() };
        Stripe::new("https://stripe.test/".parse().unwrap(), keys).unwrap()
    }

    fn intent_status(intent: Value) -> IntentStatus {
        serde_json::from_value::<PaymentIntent>(intent).unwrap().intent_status()
    }

    fn error(error: Value) -> ApiError {
        serde_json::from_value(error).unwrap()
    }

    #[test]
    fn an_intent_is_created_for_manual_capture_with_a_key_derived_from_the_order() {
        let purchase = purchase(1250, "USD");
        let request = stripe().creating("payment_intents", purchase.order_id, "intent");
        let request = request.form(&intent(&purchase).unwrap()).build().unwrap();
        assert_eq!(request.url().as_str(), "https://stripe.test/v1/payment_intents");
        assert_eq!(request.headers()["idempotency-key"], "00000000-0000-0000-0000-000000000001-intent");
        assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
        assert_eq!(
            str::from_utf8(request.body().unwrap().as_bytes().unwrap()).unwrap(),
            "amount=1250&currency=usd&capture_method=manual&payment_method=pm_card_visa\
             &payment_method_types%5B%5D=card\
             &metadata%5Border_id%5D=00000000-0000-0000-0000-000000000001"
        );
    }

    #[test]
    fn a_payment_method_cannot_inject_another_field() {
        let purchase = Purchase { payment_method: "pm&amount=1".to_owned(), ..purchase(1250, "USD") };
        let request = stripe().creating("payment_intents", purchase.order_id, "intent");
        let request = request.form(&intent(&purchase).unwrap()).build().unwrap();
        let body = str::from_utf8(request.body().unwrap().as_bytes().unwrap()).unwrap().to_owned();
        assert!(body.contains("payment_method=pm%26amount%3D1&"), "{body}");
    }

    #[test]
    fn amounts_are_in_stripes_units() {
        for (amount, currency, then) in [
            (1250, "USD", Some(1250)),
            (1250, "KRW", Some(1250)),
            (1250, "ISK", Some(125_000)),
            (1250, "UGX", Some(125_000)),
            (1200, "MGA", Some(12)),
            (1250, "MGA", None),
            (i64::MAX, "ISK", None),
        ] {
            assert_eq!(units(purchase(amount, currency).amount), then, "{amount} {currency}");
        }
    }

    #[test]
    fn stripes_status_becomes_the_intents_status() {
        for (status, then) in [
            ("requires_confirmation", IntentStatus::Open),
            ("processing", IntentStatus::Open),
            ("requires_capture", IntentStatus::Held),
            ("succeeded", IntentStatus::Captured),
            ("canceled", IntentStatus::Cancelled),
            ("requires_action", IntentStatus::Declined { code: "authentication_required".to_owned() }),
        ] {
            assert_eq!(intent_status(json!({"id": "pi_1", "status": status})), then, "{status}");
        }
    }

    #[test]
    fn a_refunded_charge_makes_the_intent_refunded() {
        let intent = |charge| json!({"id": "pi_1", "status": "succeeded", "latest_charge": charge});
        assert_eq!(intent_status(intent(json!("ch_1"))), IntentStatus::Captured);
        assert_eq!(intent_status(intent(json!({"refunded": false}))), IntentStatus::Captured);
        assert_eq!(intent_status(intent(json!({"refunded": true}))), IntentStatus::Refunded);
    }

    #[test]
    fn a_decline_has_the_issuers_code_if_there_is_one() {
        for (last_payment_error, code) in [
            (json!({"code": "card_declined", "decline_code": "insufficient_funds"}), "insufficient_funds"),
            (json!({"code": "expired_card"}), "expired_card"),
            (json!(null), "card_declined"),
        ] {
            let status = "requires_payment_method";
            let intent = json!({"id": "pi_1", "status": status, "last_payment_error": last_payment_error});
            assert_eq!(intent_status(intent), IntentStatus::Declined { code: code.to_owned() });
        }
    }

    #[test]
    fn only_what_the_buyer_can_fix_is_a_decline() {
        for (refusal, then) in [
            (json!({"code": "resource_missing", "param": "payment_method"}), Some("resource_missing")),
            (json!({"param": "payment_method"}), Some("payment_method_invalid")),
            (json!({"code": "amount_too_small", "param": "amount"}), Some("amount_too_small")),
            (json!({"param": "currency"}), None),
            (json!({"param": "payment_method_types"}), None),
            (json!({}), None),
        ] {
            assert_eq!(error(refusal.clone()).unacceptable().as_deref(), then, "{refusal}");
        }
    }

    #[test]
    fn a_refusals_cause_has_stripes_type_and_code_and_no_key() {
        let refusal = error(json!({"type": "invalid_request_error", "message": "No such key: sk_test_1"}));
        let ProviderError::Broken(cause) = broken(StatusCode::BAD_REQUEST, &refusal) else {
            panic!("not broken")
        };
        let expected = "Stripe answered 400 Bad Request: type invalid_request_error, code -, param -";
        assert_eq!(cause.to_string(), expected);
    }

    #[test]
    fn an_empty_key_is_refused() {
        for (secret_key, webhook_secret) in [("", "whsec_1"), ("sk_test_1", "")] {
            let keys = Keys { secret_key: secret_key.to_owned(), webhook_secret: webhook_secret.to_owned() };
            assert!(Stripe::new("https://stripe.test".parse().unwrap(), keys).is_err());
        }
    }
}
