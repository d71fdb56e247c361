//! How services find and call each other: the registry, a service that moves, and calls while the called service or Cloud Map
//! is faulty.

mod callers;
mod faults;
mod moving;
mod permissions;
mod registry;

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_servicediscovery::{Client, types::HealthCheckCustomConfig};
use serde_json::{Value, json};
use system_tests::{
    Person, System, eventually,
    faults::{Changes, Copy, Invoked},
    shop::{CARD, new_sku},
};
use tokio::sync::Mutex;
use uuid::Uuid;

/// Locked by a test that changes the registered instances of users, or that needs those of the deployment.
static USERS: Mutex<()> = Mutex::const_new(());

/// A test's own Cloud Map namespace, with one service: users.
struct Namespace {
    client: Client,
    name: String,
    service: String,
}

impl Namespace {
    async fn new(system: &System) -> Self {
        let client = Client::new(&system.aws);
        let name = format!("test-{}", Uuid::now_v7().simple());
        client.create_http_namespace().name(&name).send().await.expect("CreateHttpNamespace");
        let id = eventually("the namespace exists", async || {
            let all = client.list_namespaces().send().await.expect("ListNamespaces").namespaces?;
            all.into_iter().find(|namespace| namespace.name.as_deref() == Some(&name))?.id
        })
        .await;
        let service = client
            .create_service()
            .namespace_id(id)
            .name("users")
            .health_check_custom_config(HealthCheckCustomConfig::builder().build())
            .send()
            .await
            .expect("CreateService");
        Self { client, name, service: service.service.unwrap().id.unwrap() }
    }

    /// Registers an instance at a URL directly in Cloud Map, without the checks of the registry.
    async fn register(&self, id: &str, url: &str) {
        let request = self.client.register_instance().service_id(&self.service).instance_id(id);
        request.attributes("url", url).send().await.expect("RegisterInstance");
    }

    async fn deregister(&self, id: &str) {
        let request = self.client.deregister_instance().service_id(&self.service).instance_id(id);
        request.send().await.expect("DeregisterInstance");
    }

    /// Changes that make a copy of a function look for other services in this namespace.
    fn changes(&self) -> Changes {
        variables(&[("NAMESPACE", &self.name)])
    }
}

/// Changes that add variables to a copy's environment.
fn variables(variables: &[(&str, &str)]) -> Changes {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Changes { variables: variables.collect(), role_of: None }
}

/// The API's URL at another server.
fn api_at(system: &System, server: &str) -> String {
    system.output("api_url").replace(system.output("endpoint_url"), server)
}

/// An order that stays pending, because no execution handles it: a copy of one that has been settled.
async fn pending_order(buyer: &Person) -> Uuid {
    let placed = buyer.orders(&new_sku("unknown"), 1, CARD).await;
    buyer.wait_until_decided(placed).await;
    let table = aws_sdk_dynamodb::Client::new(&buyer.system.aws);
    let key = |id: Uuid| {
        let text = |value: String| AttributeValue::S(value);
        HashMap::from([
            ("pk".to_owned(), text(format!("order#{id}"))),
            ("sk".to_owned(), text("order".to_owned())),
        ])
    };
    let request = table.get_item().table_name("orders").set_key(Some(key(placed))).consistent_read(true);
    let mut item = request.send().await.expect("GetItem").item.expect("the order");
    let id = Uuid::now_v7();
    item.retain(|name, _| !["outbox", "open", "reason"].contains(&name.as_str()));
    item.extend(key(id));
    item.insert("id".to_owned(), AttributeValue::S(id.to_string()));
    item.insert("status".to_owned(), AttributeValue::S("PENDING".to_owned()));
    table.put_item().table_name("orders").set_item(Some(item)).send().await.expect("PutItem");
    id
}

/// The input of `orders-validate-user`.
fn input(order: Uuid, buyer: Uuid) -> Value {
    json!({"order_id": order, "buyer_id": buyer, "traceparent": null})
}

/// Asserts that a copy of `orders-validate-user` finds the buyer.
async fn assert_found(copy: &Copy, input: &Value) {
    assert_eq!(copy.invoke(input).await.answer, json!({}));
}

/// Asserts that a copy of `orders-validate-user` fails because a service is unavailable, and returns the reason.
async fn assert_unavailable(copy: &Copy, input: &Value) -> String {
    let Invoked { answer, log } = copy.fails(input).await;
    assert_eq!(answer["errorType"], "Unavailable", "{answer}");
    let reason = answer["errorMessage"].as_str().expect("a message").to_owned();
    assert!(reason.starts_with("the service users is not available: "), "{reason}");
    assert!(log.contains(r#""message":"failed""#), "{log}");
    reason
}
