//! A function that answers after one raw HTTPS request, made with the HTTP client of the AWS SDK but without the SDK: what
//! `make bench` compares the first answer of a function with.

use std::{env, fs};

use aws_smithy_http_client::{
    Connector,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{http::HttpConnector, orchestrator::HttpRequest};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (url, root) = (env::var("AWS_ENDPOINT_URL")?, fs::read(env::var("BENCH_ROOT")?)?);
    let trusted = TrustStore::empty().with_pem_certificate(root);
    let connector = Connector::builder()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(TlsContext::builder().with_trust_store(trusted).build()?)
        .build();
    run(service_fn(async |_: LambdaEvent<Value>| {
        let request = http::Request::post(&url).body(SdkBody::from("{}"))?;
        let answer = connector.call(HttpRequest::try_from(request)?).await?;
        let status = answer.status().as_u16();
        // The connection serves the next request once the body has been read.
        let body = ByteStream::new(answer.into_body()).collect().await?.into_bytes();
        Ok::<_, Error>(json!({"statusCode": status, "body": String::from_utf8_lossy(&body)}))
    }))
    .await
}
