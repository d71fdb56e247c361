//! AWS Cloud Map: the instances that each service of the namespace has.
//!
//! An instance is an address at which a service answers. Its attributes are those that every template sets: `url`, the base
//! URL of the service's paths, and `function_arn`, the function for direct invokes by other services.

use std::{
    collections::HashMap,
    env, error,
    time::{Duration, Instant},
};

use aws_config::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_servicediscovery::{
    Client,
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut},
    error::{BoxError, SdkError},
    operation::{
        deregister_instance::DeregisterInstanceError, discover_instances::DiscoverInstancesError,
        register_instance::RegisterInstanceError,
    },
    types::{
        FilterCondition, HealthStatusFilter, HttpInstanceSummary, OperationStatus, ServiceFilter,
        ServiceFilterName,
    },
};
use kernel::problem::Problem;
use serde::Serialize;
use thiserror::Error;
use tokio::time::sleep;

use crate::{aws, deadline::Deadline, environment};

/// Time-out of a lookup, both attempts together.
const DISCOVERY: Duration = Duration::from_secs(1);
/// Time-out of one of its two attempts.
const DISCOVERY_ATTEMPT: Duration = Duration::from_millis(450);
/// Maximum time that a registration or deregistration is polled until Cloud Map has completed it.
const OPERATION: Duration = Duration::from_secs(6);
/// The part of the caller's time that is kept for its answer.
const RESERVED_TIME: Duration = Duration::from_secs(1);
/// The pause between two polls: always the same, because this waits for an end and retries nothing.
const PAUSE: Duration = Duration::from_millis(150);

const URL: &str = "url";
const FUNCTION_ARN: &str = "function_arn";

/// An address at which a service answers, as it was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Instance {
    /// Its id, unique within the service.
    pub id: String,
    /// The base URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The function for direct invokes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_arn: Option<String>,
}

impl Instance {
    fn of(summary: HttpInstanceSummary) -> Option<Self> {
        let mut attributes = summary.attributes.unwrap_or_default();
        let (url, function_arn) = (attributes.remove(URL), attributes.remove(FUNCTION_ARN));
        Some(Self { id: summary.instance_id?, url, function_arn })
    }

    fn attributes(&self) -> HashMap<String, String> {
        let pairs = [(URL, &self.url), (FUNCTION_ARN, &self.function_arn)];
        pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
    }
}

/// Why Cloud Map did not do it.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no such service in the namespace.
    #[error("Cloud Map knows no such service")]
    UnknownService,
    /// Another operation on the same instance is in progress.
    #[error("Cloud Map is still changing this instance")]
    InUse,
    /// Cloud Map does not answer, refuses, or failed.
    #[error("Cloud Map does not answer")]
    Failed(#[source] BoxError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::UnknownService => Self::not_found("service"),
            Error::InUse => Self::concurrent_change(),
            Error::Failed(_) => Self::unavailable(error),
        }
    }
}

/// One namespace of Cloud Map, for lookups.
#[derive(Clone, Debug)]
pub struct CloudMap {
    client: Client,
    namespace: String,
}

impl CloudMap {
    /// Connects to the namespace that the environment variable `NAMESPACE` names.
    pub async fn connect() -> Result<Self, environment::Missing> {
        Ok(Self { client: client().await, namespace: environment::required("NAMESPACE")? })
    }

    /// The healthy instances of a service.
    pub async fn discover(&self, service: &str) -> Result<Vec<Instance>, Error> {
        let question = self
            .client
            .discover_instances()
            .namespace_name(&self.namespace)
            .service_name(service)
            .health_status(HealthStatusFilter::Healthy);
        // Every call to another service waits for this one: failing soon is better than an answer that comes too late.
        let hurried = aws_sdk_servicediscovery::config::Builder::new()
            .retry_config(RetryConfig::standard().with_max_attempts(2).with_initial_backoff(PAUSE))
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_timeout(DISCOVERY)
                    .operation_attempt_timeout(DISCOVERY_ATTEMPT)
                    .build(),
            );
        match question.customize().config_override(hurried).send().await {
            Ok(answer) => {
                Ok(answer.instances.unwrap_or_default().into_iter().filter_map(Instance::of).collect())
            }
            Err(error) => Err(match error.as_service_error() {
                Some(DiscoverInstancesError::ServiceNotFound(_)) => Error::UnknownService,
                _ => Error::Failed(error.into()),
            }),
        }
    }
}

/// One namespace of Cloud Map, for changes.
#[derive(Clone, Debug)]
pub struct Registry {
    client: Client,
    namespace_id: String,
}

impl Registry {
    /// Connects to the namespace whose id the environment variable `NAMESPACE_ID` has.
    pub async fn connect() -> Result<Self, environment::Missing> {
        Ok(Self { client: client().await, namespace_id: environment::required("NAMESPACE_ID")? })
    }

    /// Registers an instance, or changes the addresses of the one with its id. Returns once it can be found.
    pub async fn register(
        &self,
        service: &str,
        instance: &Instance,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let service = self.service_id(service).await?;
        let request = self.client.register_instance().service_id(service).instance_id(&instance.id);
        let operation = match request.set_attributes(Some(instance.attributes())).send().await {
            Ok(answer) => answer.operation_id,
            Err(error) => match error.as_service_error() {
                // The same request is in progress: its result is the answer to this one too.
                Some(RegisterInstanceError::DuplicateRequest(under_way)) => {
                    under_way.duplicate_operation_id.clone()
                }
                Some(RegisterInstanceError::ServiceNotFound(_)) => return Err(Error::UnknownService),
                Some(RegisterInstanceError::ResourceInUse(_)) => return Err(Error::InUse),
                _ => return Err(Error::Failed(error.into())),
            },
        };
        self.done(operation, deadline).await
    }

    /// Deregisters an instance. One that does not exist counts as deregistered.
    pub async fn deregister(&self, service: &str, id: &str, deadline: Deadline) -> Result<(), Error> {
        let service = self.service_id(service).await?;
        let request = self.client.deregister_instance().service_id(service).instance_id(id);
        let operation = match request.send().await {
            Ok(answer) => answer.operation_id,
            Err(error) => match error.as_service_error() {
                Some(DeregisterInstanceError::InstanceNotFound(_)) => return Ok(()),
                Some(DeregisterInstanceError::DuplicateRequest(under_way)) => {
                    under_way.duplicate_operation_id.clone()
                }
                Some(DeregisterInstanceError::ServiceNotFound(_)) => return Err(Error::UnknownService),
                Some(DeregisterInstanceError::ResourceInUse(_)) => return Err(Error::InUse),
                _ => return Err(Error::Failed(error.into())),
            },
        };
        self.done(operation, deadline).await
    }

    /// A service's id in Cloud Map.
    async fn service_id(&self, name: &str) -> Result<String, Error> {
        let of_namespace = ServiceFilter::builder()
            .name(ServiceFilterName::NamespaceId)
            .values(&self.namespace_id)
            .condition(FilterCondition::Eq)
            .build()
            .map_err(|error| Error::Failed(error.into()))?;
        let mut pages = self.client.list_services().filters(of_namespace).into_paginator().send();
        while let Some(page) = pages.next().await {
            let services = page.map_err(failed)?.services.unwrap_or_default();
            if let Some(found) = services.into_iter().find(|service| service.name.as_deref() == Some(name)) {
                return found.id.ok_or_else(|| Error::Failed("a service without an id".into()));
            }
        }
        Err(Error::UnknownService)
    }

    /// Awaits an operation: Cloud Map registers and deregisters asynchronously, and may fail later.
    async fn done(&self, operation: Option<String>, deadline: Deadline) -> Result<(), Error> {
        let operation = operation.ok_or_else(|| Error::Failed("an operation without an id".into()))?;
        let until = Instant::now() + deadline.time_out(OPERATION, RESERVED_TIME);
        loop {
            let answer = self.client.get_operation().operation_id(&operation).send().await.map_err(failed)?;
            let operation = answer
                .operation
                .unwrap_or_else(|| aws_sdk_servicediscovery::types::Operation::builder().build());
            match operation.status {
                Some(OperationStatus::Success) => return Ok(()),
                Some(OperationStatus::Fail) => {
                    let reason = operation.error_message.unwrap_or_else(|| "it gives no reason".to_owned());
                    return Err(Error::Failed(format!("Cloud Map could not do it: {reason}").into()));
                }
                _ if Instant::now() >= until => {
                    return Err(Error::Failed("Cloud Map has not done it yet".into()));
                }
                _ => sleep(PAUSE).await,
            }
        }
    }
}

fn failed<E>(error: SdkError<E>) -> Error
where
    E: error::Error + Send + Sync + 'static,
{
    Error::Failed(error.into())
}

async fn client() -> Client {
    let config = aws::traced!(aws_sdk_servicediscovery, aws::config().await);
    // On AWS `DiscoverInstances` has a host of its own, whose name begins with `data-`. A configured endpoint is one host for
    // all operations.
    let own_endpoint = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SERVICEDISCOVERY"];
    let config = if own_endpoint.into_iter().any(|name| env::var_os(name).is_some()) {
        config.interceptor(OneHost)
    } else {
        config
    };
    Client::from_conf(config.build())
}

/// Removes the host prefix of an operation, for which the SDK has no setting.
#[derive(Debug)]
struct OneHost;

impl Intercept for OneHost {
    fn name(&self) -> &'static str {
        "OneHost"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let uri = request.uri().replacen("://data-", "://", 1);
        Ok(request.set_uri(uri)?)
    }
}
