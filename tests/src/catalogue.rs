//! Generates the documents of the events: a JSON Schema for each, the AsyncAPI document of the bus, and a page for people.

use std::{collections::BTreeMap, fmt::Write};

use events::{
    CommentEvent, InventoryEvent, NotificationEvent, OrderEvent, PaymentEvent, PostEvent, UserEvent,
};
use kernel::event::{CloudEvent, Payload, SPECVERSION};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{files, generated, openapi::tidy, templates};

/// An event: its type and the version of its schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// `post.created`.
    pub event: String,
    /// The `schemaversion`.
    pub version: u32,
}

impl Name {
    /// The name of its files without their extension: `post.created.v1`.
    pub fn stem(&self) -> String {
        format!("{}.v{}", self.event, self.version)
    }
}

/// A consumer of an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Consumer {
    /// The function.
    pub function: String,
    /// Its description in the template.
    pub description: String,
}

/// The schema of each event that the code publishes.
pub fn schemas() -> BTreeMap<Name, Value> {
    let mut schemas = BTreeMap::new();
    add::<UserEvent>(&mut schemas);
    add::<PostEvent>(&mut schemas);
    add::<CommentEvent>(&mut schemas);
    add::<NotificationEvent>(&mut schemas);
    add::<OrderEvent>(&mut schemas);
    add::<InventoryEvent>(&mut schemas);
    add::<PaymentEvent>(&mut schemas);
    schemas
}

/// Adds the schemas of a publisher's events: the envelope, with the variant's `type` and `data`.
fn add<P: Payload + JsonSchema>(schemas: &mut BTreeMap<Name, Value>) {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut whole = settings.into_generator().into_root_schema_for::<CloudEvent<P>>().to_value();
    tidy(&mut whole);
    let fields = |value: &Value| value["properties"].as_object().cloned().unwrap_or_default();
    let names = |value: &Value| value["required"].as_array().cloned().unwrap_or_default();
    let variants = whole["oneOf"].as_array().cloned().expect("a publisher's events are an enum");
    for variant in variants {
        let mut properties = fields(&whole);
        properties.extend(fields(&variant));
        properties["specversion"] = json!({"const": SPECVERSION});
        properties["source"] = json!({"const": P::SOURCE});
        properties["schemaversion"] = json!({"const": P::SCHEMA_VERSION});
        let event = properties["type"]["const"].as_str().expect("an event's type").to_owned();
        properties["type"] = json!({"const": event});
        let name = Name { event, version: P::SCHEMA_VERSION };
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": format!("urn:madang:event:{}:v{}", name.event, name.version),
            "title": name.event,
            "description": variant["description"],
            "type": "object",
            "properties": properties,
            "required": ([names(&whole), names(&variant)].concat()),
        });
        schemas.insert(name, schema);
    }
    assert_eq!(schemas.keys().filter(|name| P::TYPES.contains(&name.event.as_str())).count(), P::TYPES.len());
}

/// Reads an event into the type that its publisher and consumers use, and serializes it again.
pub fn through_code(event: &Value) -> Result<Value, String> {
    fn roundtrip<P: Payload + DeserializeOwned + Serialize>(event: &Value) -> Result<Value, String> {
        let event: CloudEvent<P> =
            serde_json::from_value(event.clone()).map_err(|error| error.to_string())?;
        serde_json::to_value(event).map_err(|error| error.to_string())
    }
    match event["source"].as_str().unwrap_or_default() {
        UserEvent::SOURCE => roundtrip::<UserEvent>(event),
        PostEvent::SOURCE => roundtrip::<PostEvent>(event),
        CommentEvent::SOURCE => roundtrip::<CommentEvent>(event),
        NotificationEvent::SOURCE => roundtrip::<NotificationEvent>(event),
        OrderEvent::SOURCE => roundtrip::<OrderEvent>(event),
        InventoryEvent::SOURCE => roundtrip::<InventoryEvent>(event),
        PaymentEvent::SOURCE => roundtrip::<PaymentEvent>(event),
        unknown => Err(format!("no service publishes as {unknown}")),
    }
}

/// The service that publishes an event, by its schema.
pub fn publisher(schema: &Value) -> &str {
    schema["properties"]["source"]["const"].as_str().unwrap_or_default().trim_start_matches("madang.")
}

/// The AsyncAPI document of the bus. Each event has an example and its consumers.
pub fn asyncapi(examples: &BTreeMap<Name, Value>, consumers: &BTreeMap<String, Vec<Consumer>>) -> Value {
    let (mut channels, mut messages, mut operations) = (Map::new(), Map::new(), Map::new());
    let mut received: BTreeMap<(&Consumer, String), Vec<Value>> = BTreeMap::new();
    let schemas = schemas();
    for (name, schema) in &schemas {
        let (service, stem) = (publisher(schema), name.stem());
        let channel = channels.entry(service).or_insert_with(|| {
            json!({
                "address": "madang",
                "title": format!("Events of {service}"),
                "description": format!("The events on the bus `madang` whose source is `madang.{service}`."),
                "servers": [{"$ref": "#/servers/bus"}],
                "messages": {},
            })
        });
        channel["messages"][&stem] = json!({"$ref": format!("#/components/messages/{stem}")});
        let message = json!({"$ref": format!("#/channels/{service}/messages/{stem}")});
        let publishes = operations.entry(format!("{service}.publish")).or_insert_with(|| {
            json!({
                "action": "send",
                "title": format!("{service} publishes"),
                "channel": {"$ref": format!("#/channels/{service}")},
                "messages": [],
            })
        });
        publishes["messages"].as_array_mut().expect("a list").push(message.clone());
        for consumer in consumers.get(&name.event).into_iter().flatten() {
            received.entry((consumer, service.to_owned())).or_default().push(message.clone());
        }
        let mut payload = schema.clone();
        let described = payload.as_object_mut().expect("a schema");
        for name in ["$schema", "$id", "title", "description"] {
            described.remove(name);
        }
        let mut described = json!({
            "name": name.event,
            "title": name.event,
            "summary": schema["description"],
            "contentType": "application/json",
            "payload": payload,
        });
        if let Some(example) = examples.get(name) {
            described["examples"] = json!([{"payload": example}]);
        }
        messages.insert(stem, described);
    }
    for ((consumer, service), messages) in received {
        operations.insert(
            format!("{}.react", consumer.function),
            json!({
                "action": "receive",
                "title": format!("{} reacts", consumer.function),
                "description": consumer.description,
                "channel": {"$ref": format!("#/channels/{service}")},
                "messages": messages,
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Madang",
            "version": "1.0.0",
            "description": "The events that the services publish on an EventBridge bus: `source` is the channel's, \
                            `detail-type` the message's name, `detail` its payload, a CloudEvents 1.0 object. `subject` \
                            is what changed, `sequence` its version after the change. A consumer ignores fields that it \
                            does not know.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "bus": {
                "host": "events.{region}.amazonaws.com",
                "protocol": "eventbridge",
                "description": "Amazon EventBridge, in the account and Region of the deployment.",
                "variables": {"region": {"default": "us-east-1"}},
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    })
}

/// The example of each event.
pub fn examples() -> BTreeMap<Name, Value> {
    let names = schemas().into_keys();
    names
        .map(|name| {
            let path = format!("events/examples/{}.json", name.stem());
            assert!(files::at(&path).is_file(), "{path} is missing: write an example of {}", name.event);
            (name, files::json(&path))
        })
        .collect()
}

/// The consumers of each event, from the rules in the templates.
pub fn consumers() -> BTreeMap<String, Vec<Consumer>> {
    let mut consumers: BTreeMap<String, Vec<Consumer>> = BTreeMap::new();
    for (stack, template) in &templates::all() {
        let rules = templates::of_type(template, "AWS::Events::Rule");
        // The other rules are on the default bus, for new objects in a bucket.
        for (rule, properties) in rules.filter(|(_, rule)| !rule["EventBusName"].is_badvalue()) {
            let queue = properties["Targets"][0]["Arn"].as_str().expect(rule);
            let mut mappings = templates::of_type(template, "AWS::Lambda::EventSourceMapping");
            let (_, mapping) = mappings
                .find(|(_, mapping)| mapping["EventSourceArn"].as_str() == Some(queue))
                .unwrap_or_else(|| panic!("{stack}: no function consumes the queue of {rule}"));
            let function =
                &template["Resources"][mapping["FunctionName"].as_str().expect(rule)]["Properties"];
            let text =
                |name: &str| function[name].as_str().unwrap_or_else(|| panic!("{rule}: {name}")).to_owned();
            for event in properties["EventPattern"]["detail-type"].as_vec().expect(rule) {
                let consumer = Consumer { function: text("FunctionName"), description: text("Description") };
                consumers.entry(event.as_str().expect(rule).to_owned()).or_default().push(consumer);
            }
        }
    }
    for consumers in consumers.values_mut() {
        consumers.sort();
    }
    consumers
}

/// The catalogue as a Markdown page.
pub(crate) fn page(examples: &BTreeMap<Name, Value>, consumers: &BTreeMap<String, Vec<Consumer>>) -> String {
    let schemas = schemas();
    let mut page = format!(
        "<!-- Generated: {} -->\n# Events\n\n\
         The events that the services publish. An event travels on the bus `madang` as a CloudEvents 1.0 object: `subject` is \
         what\nchanged, `sequence` its version after the change, `time` when the change was made. A consumer ignores fields \
         that it does\nnot know; it may get an event twice, or a later one first.\n\n\
         | event | published by | when | consumers |\n|---|---|---|---|\n",
        generated::COMMAND
    );
    for (name, schema) in &schemas {
        let functions: Vec<String> = consumers
            .get(&name.event)
            .into_iter()
            .flatten()
            .map(|consumer| format!("`{}`", consumer.function))
            .collect();
        let functions = if functions.is_empty() { "–".to_owned() } else { functions.join(", ") };
        let (event, anchor) = (&name.event, name.stem().replace('.', ""));
        let when = schema["description"].as_str().unwrap();
        writeln!(page, "| [{event}](#{anchor}) | {} | {when} | {functions} |", publisher(schema)).unwrap();
    }
    page.push_str(
        "\nThe machine-readable form is [infra/asyncapi.json](../infra/asyncapi.json); each event has its schema in \
         `schemas/`. Every\nreleased revision is kept in `released/`; a change that its consumers could not read fails \
         the tests.\n",
    );
    for (name, schema) in &schemas {
        writeln!(page, "\n## {}\n\n{}", name.stem(), schema["description"].as_str().unwrap()).unwrap();
        for consumer in consumers.get(&name.event).into_iter().flatten() {
            writeln!(page, "\n- `{}`: {}", consumer.function, consumer.description.trim()).unwrap();
        }
        page.push_str("\n| field of `data` | type | |\n|---|---|---|\n");
        fields(&mut page, "", &schema["properties"]["data"]);
        let example = serde_json::to_string_pretty(&examples[name]).unwrap();
        writeln!(page, "\n```json\n{example}\n```").unwrap();
    }
    page
}

/// Writes a row for each field of an object, nested fields included.
fn fields(page: &mut String, at: &str, object: &Value) {
    let required = object["required"].as_array().cloned().unwrap_or_default();
    for (name, schema) in object["properties"].as_object().into_iter().flatten() {
        let (mut of, mut inner) = (schema["type"].as_str().unwrap_or("string").to_owned(), schema);
        let mut path = format!("{at}{name}");
        if schema["items"].is_object() {
            (of, inner) = ("array".to_owned(), &schema["items"]);
            path.push_str("[]");
        }
        if let Some(format) = schema["format"].as_str() {
            format.clone_into(&mut of);
        }
        let need = if required.contains(&json!(name)) { "" } else { ", may be absent" };
        let about = schema["description"].as_str().unwrap_or_default();
        writeln!(page, "| `{at}{name}` | {of}{need} | {about} |").unwrap();
        fields(page, &format!("{path}."), inner);
    }
}
