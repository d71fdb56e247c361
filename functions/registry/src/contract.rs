//! The contract of the endpoints, for `infra/openapi.json`.

use kernel::{
    address::{BaseUrl, FunctionArn},
    contract::{Operation, json},
    operation,
    problem::Kind,
};
use runtime::aws::cloud_map::Instance;
use schemars::JsonSchema;

use crate::{
    endpoints::{self, ServiceView},
    registration::{MAX_ID, MAX_SERVICE},
};

/// A name that can be part of a path.
const NAME: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";

#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used")]
struct ServiceName(#[schemars(length(min = 1, max = MAX_SERVICE), regex(pattern = NAME))] String);

#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used")]
struct InstanceName(#[schemars(length(min = 1, max = MAX_ID), regex(pattern = NAME))] String);

/// Where an instance is: a base URL, a function or both.
#[derive(JsonSchema)]
#[schemars(rename = "Addresses", extend("minProperties" = 1))]
#[expect(dead_code, reason = "only its schema is used")]
struct Addresses {
    /// The base URL.
    url: Option<BaseUrl>,
    /// The function for direct invokes.
    function_arn: Option<FunctionArn>,
}

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let instance = json!({
        "id": "laptop", "url": "http://127.0.0.1:9000",
        "function_arn": "arn:aws:lambda:us-east-1:123456789012:function:users-lookup",
    });
    let mut addresses = instance.clone();
    addresses.as_object_mut().map(|fields| fields.remove("id"));
    vec![
        operation!("registry-resolve", "GET", "/registry/{service}", endpoints::resolve)
            .named("resolveService", "Find a service")
            .about("The healthy instances, from which callers choose.")
            .for_principals()
            .path::<ServiceName>("service", "The service.", "users")
            .answers::<ServiceView<'_>>(
                200,
                "The service.",
                json!({"service": "users", "instances": [instance.clone()]}),
            ),
        operation!("registry-register", "PUT", "/registry/{service}/instances/{id}", endpoints::register)
            .named("registerInstance", "Register an instance")
            .about("Or changes the addresses of a registered one.")
            .for_principals()
            .refuses(&[Kind::Conflict])
            .path::<ServiceName>("service", "The service.", "users")
            .path::<InstanceName>("id", "The instance.", "laptop")
            .takes::<Addresses>(addresses)
            .answers::<Instance>(200, "The instance.", instance),
        operation!(
            "registry-deregister",
            "DELETE",
            "/registry/{service}/instances/{id}",
            endpoints::deregister
        )
        .named("deregisterInstance", "Deregister an instance")
        .about("An instance that does not exist counts as deregistered.")
        .for_principals()
        .refuses(&[Kind::Invalid, Kind::Conflict])
        .path::<ServiceName>("service", "The service.", "users")
        .path::<InstanceName>("id", "The instance.", "laptop")
        .answers_empty(204, "The instance is not registered."),
    ]
}
