//! Finished spans on their way to X-Ray: OTLP in datagrams to the daemon that Lambda runs beside every function.
//!
//! The transport of AWS's own Lambda layers for OpenTelemetry: the daemon's header, a newline, `T1S` (a sampled trace) and
//! the protobuf in base64. Neither a layer nor a collector is needed. A datagram does not wait: where the daemon is slow
//! or not there a span is lost, and never a request's time.
//!
//! Sources: the X-Ray daemon's header, <https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html>;
//! OTLP, <https://opentelemetry.io/docs/specs/otlp/>; the transport,
//! <https://github.com/aws-observability/aws-otel-python-instrumentation> (`OTLPUdpSpanExporter`).

use std::{env, io, net::UdpSocket};

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

/// What stands before each datagram's payload.
const HEADER: &str = "{\"format\":\"json\",\"version\":1}\nT1S";
/// The attribute that lists which others X-Ray indexes, to search by.
const ANNOTATIONS: &str = "aws.xray.annotations";

/// Makes spans and exports them where Lambda runs a daemon.
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
        // The decision to sample is Lambda's, or that of whoever began the trace.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
        .with_resource(resource);
    let provider = match Daemon::find() {
        // Exported one by one as they end: nothing is left in a buffer when Lambda freezes the function.
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
    /// The daemon at the address that Lambda names, none where it names none.
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
        batch.iter_mut().for_each(index_ids);
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

/// Has X-Ray index a span's ids: `annotation.order_id = "…"` finds its trace.
fn index_ids(span: &mut SpanData) {
    let names = span.attributes.iter().map(|attribute| &attribute.key);
    let ids: Vec<StringValue> = names
        .filter(|name| name.as_str().ends_with("_id"))
        .map(|name| name.as_str().to_owned().into())
        .collect();
    if !ids.is_empty() {
        span.attributes.push(KeyValue::new(ANNOTATIONS, Value::Array(Array::String(ids))));
    }
}
