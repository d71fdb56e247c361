//! The HTTP endpoints: for operators and deployments, which sign their requests (IAM).

use kernel::{
    precondition::Preconditions,
    problem::{Kind, Problem},
};
use runtime::{
    aws::cloud_map::{CloudMap, Instance, Registry},
    serve::http::{Reply, Request},
};
use serde::Serialize;

use crate::registration;

/// A service and its instances, as the API shows them.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "Service"))]
pub(crate) struct ServiceView<'a> {
    /// The service.
    service: &'a str,
    /// Its healthy instances.
    instances: Vec<Instance>,
}

/// `PUT /registry/{service}/instances/{id}`: registers an instance, or changes its addresses.
pub async fn register(registry: &Registry, request: &Request) -> Result<Reply, Problem> {
    request.require_signature()?;
    let service = registration::service(request.parameter("service"))?;
    let id = registration::instance_id(request.parameter("id"))?;
    refuse_preconditions(request)?;
    let instance = registration::instance(id, request.json()?)?;

    registry.register(service, &instance, request.deadline()).await?;
    Reply::ok(&instance)
}

/// `DELETE /registry/{service}/instances/{id}`: deregisters an instance. One that does not exist counts as deregistered.
pub async fn deregister(registry: &Registry, request: &Request) -> Result<Reply, Problem> {
    request.require_signature()?;
    let service = registration::service(request.parameter("service"))?;
    let id = registration::instance_id(request.parameter("id"))?;
    refuse_preconditions(request)?;

    registry.deregister(service, id, request.deadline()).await?;
    Ok(Reply::no_content())
}

/// Instances have no versions, and Cloud Map cannot write on a condition: one that cannot be evaluated must not be ignored.
fn refuse_preconditions(request: &Request) -> Result<(), Problem> {
    if request.preconditions() == &Preconditions::default() {
        return Ok(());
    }
    let detail = "instances have no versions: send neither If-Match nor If-None-Match";
    Err(Problem::new(Kind::StaleVersion, detail))
}

/// `GET /registry/{service}`: the healthy instances, from which callers choose.
pub async fn resolve(cloud_map: &CloudMap, request: &Request) -> Result<Reply, Problem> {
    request.require_signature()?;
    let service = registration::service(request.parameter("service"))?;

    let mut instances = cloud_map.discover(service).await?;
    instances.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    Reply::ok(&ServiceView { service, instances })
}
