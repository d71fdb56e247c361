//! How services find and call each other: the registry, moving a service, and what becomes of a call when the
//! other side, or Cloud Map, is out of order.

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

/// Held by who changes where users is, and by who wants to see where it was deployed.
static USERS: Mutex<()> = Mutex::const_new(());

/// A namespace that a test has for itself, with one service in it: users.
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
        let id = eventually("the namespace is there", async || {
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

    /// Registers an instance at a URL, past the registry and its checks.
    async fn put(&self, id: &str, url: &str) {
        let request = self.client.register_instance().service_id(&self.service).instance_id(id);
        request.attributes("url", url).send().await.expect("RegisterInstance");
    }

    async fn take_away(&self, id: &str) {
        let request = self.client.deregister_instance().service_id(&self.service).instance_id(id);
        request.send().await.expect("DeregisterInstance");
    }

    /// Makes a copy of a function look here for other services.
    fn changes(&self) -> Changes {
        variables(&[("NAMESPACE", &self.name)])
    }
}

/// Adds variables to a copy's environment.
fn variables(variables: &[(&str, &str)]) -> Changes {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Changes { variables: variables.collect(), role_of: None }
}

/// The API's address with another server's in its place.
fn api_at(system: &System, server: &str) -> String {
    system.output("api_url").replace(system.output("endpoint_url"), server)
}

/// An order that stays as it was placed: no execution works on it. It is a copy of one that was.
async fn pending_order(buyer: &Person) -> Uuid {
    let placed = buyer.orders(&new_sku("unknown"), 1, CARD).await;
    buyer.settled(placed).await;
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

/// What `orders-validate-user` is asked.
fn question(order: Uuid, buyer: Uuid) -> Value {
    json!({"order_id": order, "buyer_id": buyer, "traceparent": null})
}

/// Asserts that a copy of `orders-validate-user` finds the buyer.
async fn finds(copy: &Copy, question: &Value) {
    assert_eq!(copy.invoke(question).await.answer, json!({}));
}

/// Asserts that it fails for now, and gives the reason.
async fn is_unavailable(copy: &Copy, question: &Value) -> String {
    let Invoked { answer, log } = copy.fails(question).await;
    assert_eq!(answer["errorType"], "Transient", "{answer}");
    let reason = answer["errorMessage"].as_str().expect("a message").to_owned();
    assert!(reason.starts_with("the service users is not available: "), "{reason}");
    assert!(log.contains(r#""message":"failed""#), "{log}");
    reason
}
