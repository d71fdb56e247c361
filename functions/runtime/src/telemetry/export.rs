//! Exports finished spans to X-Ray: OTLP in datagrams to the daemon that Lambda runs beside every function.
//!
//! The transport of AWS's own Lambda layers for OpenTelemetry: the daemon's header, a newline, `T1S` (a sampled trace) and
//! the protobuf in base64. Neither a layer nor a collector is needed. Sending does not block: if the daemon is slow or absent,
//! spans are lost, but no request takes longer.
//!
//! Sources: the X-Ray daemon's header, <https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html>;
//! OTLP, <https://opentelemetry.io/docs/specs/otlp/>; the transport,
//! <https://github.com/aws-observability/aws-otel-python-instrumentation> (`OTLPUdpSpanExporter`).

use std::{collections::HashSet, env, io, net::UdpSocket};

use base64::{Engine, engine::general_purpose::STANDARD};
use opentelemetry::{Array, KeyValue, StringValue, Value, trace::TracerProvider};
use opentelemetry_aws::trace::XrayIdGenerator;
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter},
};
use prost::Message;

use super::origin::RootSampler;

/// The header of each datagram.
const HEADER: &str = "{\"format\":\"json\",\"version\":1}\nT1S";
/// The attribute that lists the attributes that X-Ray indexes for search.
const ANNOTATIONS: &str = "aws.xray.annotations";

/// The attributes with the result of the work.
const OUTCOMES: [&str; 2] = ["outcome", "error.type"];

/// Records spans and exports them, if Lambda runs a daemon.
pub(super) fn tracer() -> SdkTracer {
    let name = env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
    let resource = Resource::builder_empty()
        .with_service_name(name.clone())
        .with_attributes([
            KeyValue::new("cloud.provider", "aws"),
            KeyValue::new("cloud.platform", "aws_lambda"),
            KeyValue::new("faas.name", name),
        ])
        .build();
    let builder = SdkTracerProvider::builder()
        .with_id_generator(XrayIdGenerator::default())
        // Lambda, or our own caller, decides whether to sample.
        .with_sampler(Sampler::ParentBased(Box::new(RootSampler)))
        .with_resource(resource);
    let provider = match Daemon::find() {
        // Exported one by one when they end, so that no buffer is left when Lambda freezes the function.
        Some(daemon) => builder.with_simple_exporter(daemon).build(),
        None => builder.build(),
    };
    provider.tracer("madang")
}

/// The X-Ray daemon.
#[derive(Debug)]
struct Daemon {
    socket: UdpSocket,
    resource: ResourceAttributesWithSchema,
}

impl Daemon {
    /// The daemon at the address that Lambda names; `None` if it names none.
    fn find() -> Option<Self> {
        let address = env::var("AWS_XRAY_DAEMON_ADDRESS").ok()?;
        let connect = || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(&address)?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(socket)
        };
        let socket = connect().ok()?;
        Some(Self { socket, resource: ResourceAttributesWithSchema::default() })
    }
}

impl SpanExporter for Daemon {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        for span in &mut batch {
            keep_the_last(span);
            index(span);
        }
        let spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let request = ExportTraceServiceRequest { resource_spans: spans };
        let mut datagram = HEADER.to_owned();
        STANDARD.encode_string(request.encode_to_vec(), &mut datagram);
        match self.socket.send(datagram.as_bytes()) {
            Ok(_) => Ok(()),
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

/// Keeps the last value of each attribute: the SDK keeps all, but OTLP allows one.
fn keep_the_last(span: &mut SpanData) {
    let mut seen = HashSet::new();
    span.attributes.reverse();
    span.attributes.retain(|attribute| seen.insert(attribute.key.clone()));
    span.attributes.reverse();
}

/// Has X-Ray index a span's ids and its result, so that `annotation.order_id = "…"` and
/// `annotation.error_type = "Payment.Declined"` find its trace.
fn index(span: &mut SpanData) {
    let names = span.attributes.iter().map(|attribute| attribute.key.as_str());
    let indexed: Vec<StringValue> = names
        .filter(|name| name.ends_with("_id") || OUTCOMES.contains(name))
        .map(|name| name.to_owned().into())
        .collect();
    if !indexed.is_empty() {
        span.attributes.push(KeyValue::new(ANNOTATIONS, Value::Array(Array::String(indexed))));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::{Span as _, Tracer};

    use super::*;

    /// The spans that were exported.
    #[derive(Clone, Debug, Default)]
    pub(in crate::telemetry) struct Kept(pub(in crate::telemetry) Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    fn exported(attributes: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
        let mut span = provider.tracer("test").start("span");
        for (name, value) in attributes {
            span.set_attribute(KeyValue::new(*name, *value));
        }
        span.end();
        let mut span = kept.0.lock().unwrap().remove(0);
        keep_the_last(&mut span);
        index(&mut span);
        let pair = |attribute: KeyValue| (attribute.key.to_string(), attribute.value.to_string());
        span.attributes.into_iter().map(pair).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn ids_and_outcomes_are_indexed_and_nothing_else_is() {
        let found =
            exported(&[("order_id", "1"), ("error.type", "Payment.Declined"), ("rpc.method", "PutItem")]);
        let index = (ANNOTATIONS, r#"["order_id","error.type"]"#);
        assert_eq!(
            found,
            pairs(&[("order_id", "1"), ("error.type", "Payment.Declined"), ("rpc.method", "PutItem"), index])
        );
        assert_eq!(exported(&[("rpc.method", "PutItem")]), pairs(&[("rpc.method", "PutItem")]));
    }

    #[test]
    fn of_what_was_set_twice_the_last_is_kept() {
        let found = exported(&[("outcome", "first"), ("a", "b"), ("outcome", "last")]);
        assert_eq!(found, pairs(&[("a", "b"), ("outcome", "last"), (ANNOTATIONS, r#"["outcome"]"#)]));
    }
}
