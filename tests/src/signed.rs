//! Signed requests (`SigV4`) for which this crate has no AWS client: the API's endpoints for AWS principals, and CloudWatch.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use serde_json::{Value, json};

use crate::{Answer, Request, System, eventually};

impl System {
    /// `GET` through the API, signed by the account's root.
    pub async fn get_signed(&self, path: &str) -> Answer {
        self.send_signed("GET", path, None).await
    }

    /// A request through the API with a JSON body, if any, signed by the account's root.
    pub async fn send_signed(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send_signed_raw(method, path, "application/json", body).await
    }

    /// A request through the API with these headers and no body, signed by the account's root.
    pub async fn send_signed_with(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let url = format!("{}{path}", self.output("api_url"));
        self.signed(&root(), "execute-api", method, &url, headers, String::new()).send().await
    }

    /// A request through the API with any body, signed by the account's root.
    pub async fn send_signed_raw(&self, method: &str, path: &str, media_type: &str, body: String) -> Answer {
        let url = format!("{}{path}", self.output("api_url"));
        let headers = if body.is_empty() { vec![] } else { vec![("content-type", media_type)] };
        self.signed(&root(), "execute-api", method, &url, &headers, body).send().await
    }

    /// `GET` through the API, signed by the account's root, before it is sent. Headers that are added are not signed.
    pub fn signed_get(&self, path: &str) -> Request {
        let url = format!("{}{path}", self.output("api_url"));
        self.signed(&root(), "execute-api", "GET", &url, &[], String::new())
    }

    /// `GET` through the API, signed with these credentials.
    pub async fn get_signed_by(&self, signer: &Credentials, path: &str) -> Answer {
        let url = format!("{}{path}", self.output("api_url"));
        self.signed(signer, "execute-api", "GET", &url, &[], String::new()).send().await
    }

    /// The outcomes of an event at a consumer, in order. Waits until the consumer has logged `times` of them.
    pub async fn wait_until_consumed(&self, function: &str, event: &Value, times: usize) -> Vec<String> {
        let id = event["id"].as_str().unwrap();
        eventually(&format!("{function} has consumed the event {times} times"), async || {
            let lines = self.log_lines(function, id).await;
            let consumed: Vec<String> =
                lines.iter().filter_map(|line| line["outcome"].as_str().map(str::to_owned)).collect();
            (consumed.len() >= times).then_some(consumed)
        })
        .await
    }

    /// The lines with this text that a function has logged, each a JSON object.
    pub async fn log_lines(&self, function: &str, text: &str) -> Vec<Value> {
        self.log_lines_since(function, text, 0).await
    }

    /// Like [`Self::log_lines`], but only the lines from `start` on, in milliseconds since 1970.
    pub(crate) async fn log_lines_since(&self, function: &str, text: &str, start: u64) -> Vec<Value> {
        let query = json!({
            "logGroupName": format!("/aws/lambda/{function}"),
            "filterPattern": format!("\"{text}\""),
            "startTime": start,
        });
        let answer = self.aws_json("logs", "1.1", "Logs_20140328.FilterLogEvents", &query).await;
        let lines = answer["events"].as_array().unwrap().iter().filter_map(|line| line["message"].as_str());
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Calls an AWS API that speaks JSON, as the account's root.
    pub(crate) async fn aws_json(&self, service: &str, version: &str, target: &str, input: &Value) -> Value {
        let media_type = format!("application/x-amz-json-{version}");
        let headers = [("content-type", media_type.as_str()), ("x-amz-target", target)];
        let url = format!("{}/", self.output("endpoint_url"));
        let answer = self.signed(&root(), service, "POST", &url, &headers, input.to_string()).send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    fn signed(
        &self,
        signer: &Credentials,
        service: &str,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Request {
        let identity = signer.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.output("region"))
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let signable =
            SignableRequest::new(method, url, headers.iter().copied(), SignableBody::Bytes(body.as_bytes()));
        let (instructions, _) = sign(signable.unwrap(), &parameters).unwrap().into_parts();
        let mut request = self.http.request(method.parse().unwrap(), url).body(body);
        for (name, value) in headers.iter().copied().chain(instructions.headers()) {
            request = request.header(name, value);
        }
        Request(request)
    }
}

/// The account's root.
fn root() -> Credentials {
    Credentials::new("test", "test", None, None, "local")
}
