//! Clients of AWS services, and their configuration.
//!
//! | module | what it does |
//! |---|---|
//! | this one | the configuration that all clients share |
//! | [`bus`] | puts events on the event bus |
//! | [`dead_letters`] | puts messages that cannot be handled into a dead-letter queue |
//! | [`cloud_map`] | reads and changes the instances that AWS Cloud Map knows |
//! | [`identity_provider`] | reads and removes logins in the Cognito user pool, and asks who is in a group (feature `identity-provider`) |
//! | [`mail`] | sends e-mail with SES (feature `mail`) |
//! | [`workflow`] | starts state machine executions and reads their status (feature `workflow`) |
//! | [`secrets`] | reads a secret (feature `secrets`) |
//!
//! An SDK client that few services use is behind a feature, so that the other services do not compile it; `table` has the
//! client of DynamoDB, and `services` that of Lambda.

pub mod bus;
pub mod cloud_map;
pub mod dead_letters;
#[cfg(feature = "identity-provider")]
pub mod identity_provider;
#[cfg(feature = "mail")]
pub mod mail;
#[cfg(feature = "secrets")]
pub mod secrets;
#[cfg(feature = "workflow")]
pub mod workflow;

use std::{sync::OnceLock, time::Duration};

use aws_config::{
    BehaviorVersion, SdkConfig,
    environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider},
    retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::{
    Connector,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn};
use tokio::sync::OnceCell;

/// Time-out of one attempt of one call. Three attempts with their pauses take little more than six of an endpoint's ten seconds;
/// whatever several calls take, the invocation's deadline ends them.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 3;
/// Maximum pause before the first retry; it doubles with each. The SDK's own is a second, but for DynamoDB it is this.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The root certificates of Amazon Trust Services, which AWS's endpoints have (<https://www.amazontrust.com/repository/>).
///
/// The system's bundle has some 140 others. Reading it took more than half of a function's cold start, and no other
/// certificate belongs on an AWS endpoint.
const AMAZON_TRUST_SERVICES: &[u8] = include_bytes!("amazon_trust_services.pem");

/// The configuration, created once for all clients of a function, which share one connection pool.
pub async fn config() -> &'static SdkConfig {
    static CONFIG: OnceCell<SdkConfig> = OnceCell::const_new();
    CONFIG.get_or_init(load).await
}

/// An AWS client whose calls are traced: `client!(aws_sdk_sqs)`. A macro, because each SDK crate has a configuration type of
/// its own.
macro_rules! client {
    ($sdk:ident) => {
        $sdk::Client::from_conf($crate::aws::traced!($sdk, $crate::aws::config().await).build())
    };
}
pub(crate) use client;

/// The configuration of a client whose calls are traced.
macro_rules! traced {
    ($sdk:ident, $config:expr) => {{
        let config = $sdk::config::Builder::from($config);
        if $crate::telemetry::TRACING { config.interceptor($crate::telemetry::AwsCalls) } else { config }
    }};
}
pub(crate) use traced;

/// The one HTTP client of a function, for AWS's APIs and for other services behind API Gateway, so that there is one
/// connection pool and the certificates are read once.
pub(crate) fn connector() -> SharedHttpConnector {
    static CONNECTOR: OnceLock<SharedHttpConnector> = OnceLock::new();
    let connector = CONNECTOR.get_or_init(|| {
        let trusted = TrustStore::empty().with_pem_certificate(AMAZON_TRUST_SERVICES);
        #[cfg(feature = "bench-root")]
        let trusted = with_root_of_bench(trusted);
        let tls = TlsContext::builder().with_trust_store(trusted).build().unwrap_or_default();
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let connector = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls)
            .connector_settings(settings)
            .sleep_impl(TokioSleep::new())
            .build();
        SharedHttpConnector::new(connector)
    });
    connector.clone()
}

/// Adds the root certificate of `make bench`, which the environment variable `BENCH_ROOT` names. Without it every call fails.
#[cfg(feature = "bench-root")]
fn with_root_of_bench(trusted: TrustStore) -> TrustStore {
    let root = std::env::var_os("BENCH_ROOT").and_then(|path| std::fs::read(path).ok());
    trusted.with_pem_certificate(root.unwrap_or_default())
}

/// Reads region, credentials and endpoints from the environment that Lambda sets up.
///
/// Only from the environment: at every cold start the default chain would look for profile files and a metadata service,
/// which a function does not have.
async fn load() -> SdkConfig {
    // Made now, so that TLS is set up when the function starts and not in its first request. That request opens the connection:
    // opened here, it would bring the first answer no sooner, make a start wait for an AWS service that is down, and could be closed
    // before it is used.
    let connector = connector();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .region(EnvironmentVariableRegionProvider::new())
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_PAUSE))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .build(),
        )
        .load()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trusted_roots_are_the_five_of_amazon() {
        let text = std::str::from_utf8(AMAZON_TRUST_SERVICES).unwrap();
        assert_eq!(text.matches("-----BEGIN CERTIFICATE-----").count(), 5);
        assert_eq!(text.matches("-----END CERTIFICATE-----").count(), 5);
    }
}
