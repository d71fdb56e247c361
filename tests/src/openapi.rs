//! Generates the OpenAPI document from the services' `contract` modules, and [`v3_0`] the same in the older format.

pub mod v3_0;

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use kernel::{
    contract::{self, Access, Answer, Header, Operation, Parameter, ParameterIn},
    problem::{self, Kind},
};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

const TITLE: &str = "Madang";
const DESCRIPTION: &str = "People sign up, write posts, comment, are notified, and order goods from a shared stock.\n\n\
    Errors are problem documents (RFC 9457). If API Gateway itself refuses a request, the answer is `{\"message\": …}`. \
    Lists are read page by page: `next_cursor` of one page is `cursor` of the next. Every POST that creates takes an \
    `Idempotency-Key`. A change names in `If-Match` the version that it is based on: the `ETag` of the last answer. Each \
    answer names its trace in `traceresponse`; operators can find it by that. Requests with unknown fields are refused. \
    Answers may get more fields, and clients should ignore those that they do not know.";

/// The header in which an answer names its trace.
const TRACE_RESPONSE: &str = "traceresponse";

/// The names of the security schemes.
const ACCESS_TOKEN: &str = "accessToken";
const SIGNATURE: &str = "awsSignature";
const PROVIDER: &str = "providerSignature";

/// The extension of a refusal's media type that holds the schema of what is really answered, or `false` if nothing is.
///
/// Generators read less than JSON Schema can say. openapi-python-client reads the first media type of an answer only, and
/// progenitor `application/json` only; both give an operation one type for all errors. So each refusal names the same two
/// schemas, [`PROBLEM`] and, for `application/json`, [`REFUSAL`], which is everything that an error can be. The tests and the
/// documentation page use this extension instead: see [`exact`].
const EXACT: &str = "x-exact-schema";

/// The names of the schemas of errors: a function's, API Gateway's, and either of them.
const PROBLEM: &str = "Problem";
const GATEWAY_MESSAGE: &str = "GatewayMessage";
const REFUSAL: &str = "Refusal";

/// A service of the API: its name, its description, its operations.
pub type Service = (&'static str, &'static str, Vec<Operation>);

/// Every service's operations, in the order of the document.
pub fn services() -> Vec<Service> {
    vec![
        ("users", "Users and their profiles.", users::contract::operations()),
        ("posts", "Posts of users.", posts::contract::operations()),
        ("comments", "Comments on posts.", comments::contract::operations()),
        ("notifications", "Notifications, and preferences for mail.", notifications::contract::operations()),
        ("inventory", "Items that can be ordered, and their stock.", inventory::contract::operations()),
        ("orders", "Orders of items.", orders::contract::operations()),
        ("payments", "Payments of orders.", payments::contract::operations()),
        ("api-docs", "This description, and a page to try it.", api_docs::contract::operations()),
        ("registry", "Where services are, for operators and deployments.", registry::contract::operations()),
    ]
}

/// Every operation, in that order.
pub fn operations() -> impl Iterator<Item = Operation> {
    services().into_iter().flat_map(|(_, _, operations)| operations)
}

/// The whole document.
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut responses = BTreeMap::new();
    let (mut tags, mut paths) = (Vec::new(), Map::new());
    for (name, about, operations) in services() {
        tags.push(json!({"name": name, "description": about}));
        for operation in operations {
            let described = describe(name, &operation, &mut schemas, &mut responses);
            let path = paths.entry(operation.path).or_insert_with(|| json!({}));
            path[operation.method.to_lowercase()] = described;
        }
    }
    resolved(json!({
        "openapi": "3.1.1",
        "info": {
            "title": TITLE,
            "description": DESCRIPTION,
            "version": "1.0.0",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        // Relative to the URL of this document, so that each deployment describes itself.
        "servers": [{"url": ".", "description": "The deployment that serves this document."}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.all(),
            "responses": responses,
            "headers": headers(),
            "securitySchemes": security_schemes(),
        },
    }))
}

/// The document with the schemas of what is really answered, which generators cannot read: see `EXACT`.
pub fn exact() -> Value {
    let mut document = document();
    let responses = document["components"]["responses"].as_object_mut();
    for response in responses.into_iter().flat_map(|responses| responses.values_mut()) {
        let Some(content) = response["content"].as_object_mut() else { continue };
        content.retain(|_, media| media[EXACT] != json!(false));
        for media in content.values_mut().filter_map(Value::as_object_mut) {
            if let Some(exact) = media.remove(EXACT) {
                media.insert("schema".to_owned(), exact);
            }
        }
    }
    document
}

/// A validator for a schema of the document. It checks formats too.
pub fn validator(document: &Value, schema: &Value) -> Validator {
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "components": document["components"],
        "allOf": [schema],
    });
    jsonschema::options().should_validate_formats(true).build(&whole).expect("a schema")
}

fn describe(
    tag: &str,
    operation: &Operation,
    schemas: &mut Schemas,
    responses: &mut BTreeMap<String, Value>,
) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "tags": [tag],
        "summary": operation.summary,
        "security": security(operation.access),
        // The function that serves it: a test compares this with the templates.
        "x-function": operation.function,
    });
    if !operation.description.is_empty() {
        described["description"] = json!(operation.description);
    }
    let parameters: Vec<Value> =
        operation.parameters.iter().map(|parameter| describe_parameter(parameter, schemas)).collect();
    if !parameters.is_empty() {
        described["parameters"] = json!(parameters);
    }
    if let Some(body) = &operation.body {
        let schema = schemas.sent(body.schema, body.ignores_unknown_fields);
        described["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": schema, "examples": {"example": {"value": body.example}}}},
        });
    }
    let mut answers = Map::new();
    for answer in &operation.answers {
        answers.insert(answer.status.to_string(), describe_answer(answer, schemas));
    }
    for (status, refusal) in refusals(operation) {
        let name = refusal.name();
        answers.insert(status.to_string(), json!({"$ref": format!("#/components/responses/{name}")}));
        let described = refusal.describe(status);
        let existing = responses.entry(name).or_insert_with(|| described.clone());
        assert_eq!(*existing, described, "two answers have the same name");
    }
    described["responses"] = Value::Object(answers);
    described
}

fn describe_parameter(parameter: &Parameter, schemas: &mut Schemas) -> Value {
    let Parameter { name, location, required, description, schema, example } = parameter;
    let location = match location {
        ParameterIn::Path => "path",
        ParameterIn::Query => "query",
        ParameterIn::Header => "header",
    };
    let mut described = json!({
        "name": name, "in": location, "required": required, "description": description,
        "schema": schemas.sent(*schema, true),
    });
    if !example.is_null() {
        described["example"] = example.clone();
    }
    described
}

fn describe_answer(answer: &Answer, schemas: &mut Schemas) -> Value {
    let mut described = json!({"description": answer.description});
    for content in &answer.content {
        let mut body = json!({"schema": schemas.answered(content.schema)});
        if !content.example.is_null() {
            body["examples"] = json!({"example": {"value": content.example}});
        }
        described["content"][content.media_type] = body;
    }
    described["headers"][TRACE_RESPONSE] = json!({"$ref": "#/components/headers/Trace"});
    for header in &answer.headers {
        let (name, header) = match header {
            Header::ETag => ("ETag", json!({"$ref": "#/components/headers/Version"})),
            Header::FileETag => ("ETag", json!({"$ref": "#/components/headers/FileTag"})),
            Header::Location(example) => ("Location", location(example)),
        };
        described["headers"][name] = header;
    }
    for link in &answer.links {
        let parameters: BTreeMap<_, _> = link.parameters.iter().copied().collect();
        described["links"][link.operation] = json!({"operationId": link.operation, "parameters": parameters});
    }
    described
}

fn location(example: &str) -> Value {
    json!({
        "description": "The URL of what was created, relative to the URL of the request (RFC 3986).",
        "required": true,
        "schema": {"type": "string", "format": "uri-reference", "pattern": "^[^/]"},
        "example": example,
    })
}

/// The refusals with one status: the function's problems, and API Gateway's message if that refuses requests with it too.
struct Refusal {
    kinds: Vec<Kind>,
    gateway: Option<&'static str>,
}

impl Refusal {
    /// The component's name: the names of its problems, and API Gateway's message if there is one.
    fn name(&self) -> String {
        let names = self.kinds.iter().map(|kind| pascal(kind.name()));
        let gateway = self.gateway.map(|message| format!("Gateway{}", message.replace(' ', "")));
        names.chain(gateway).collect::<Vec<_>>().join("Or")
    }

    fn describe(&self, status: u16) -> Value {
        let (mut content, mut reasons) = (Map::new(), Vec::new());
        if !self.kinds.is_empty() {
            let mut examples = Map::new();
            for kind in &self.kinds {
                let example = contract::example(*kind);
                reasons.push(format!("`{}`: {}", kind.name(), contract::meaning(*kind)));
                examples.insert(kind.name().to_owned(), json!({"value": example.to_json(INSTANCE)}));
            }
            let types: Vec<String> = self.kinds.iter().map(|kind| kind.uri()).collect();
            let exact = json!({
                "allOf": [
                    reference(PROBLEM),
                    {"type": "object", "properties": {"type": {"enum": types}, "status": {"const": status}}},
                ],
            });
            let problem = json!({"schema": reference(PROBLEM), EXACT: exact, "examples": examples});
            content.insert(problem::MEDIA_TYPE.to_owned(), problem);
        }
        let mut json = json!({"schema": reference(REFUSAL), EXACT: false});
        if let Some(message) = self.gateway {
            reasons.push(format!("API Gateway's own: `{message}`"));
            json[EXACT] = reference(GATEWAY_MESSAGE);
            json["examples"] = json!({"gateway": {"value": {"message": message}}});
        }
        content.insert("application/json".to_owned(), json);
        let trace = if self.gateway.is_some() { "TraceOfProblem" } else { "Trace" };
        let trace = json!({"$ref": format!("#/components/headers/{trace}")});
        let mut described = json!({"description": reasons.join("; "), "content": content});
        if !self.kinds.is_empty() {
            described["headers"][TRACE_RESPONSE] = trace;
        }
        if self.kinds.contains(&Kind::Unauthenticated) {
            described["headers"]["WWW-Authenticate"] = json!({"$ref": "#/components/headers/Challenge"});
        }
        if self.kinds.iter().any(|kind| matches!(kind, Kind::RateLimited | Kind::Unavailable)) {
            described["headers"]["Retry-After"] = json!({"$ref": "#/components/headers/RetryAfter"});
        }
        described
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

const INSTANCE: &str = "urn:uuid:6f1c2f9e-3b1d-4c8e-9a53-0d2f4c8e9a53";

/// An operation's refusals by status: those of its function, and those of API Gateway in front of it.
fn refusals(operation: &Operation) -> BTreeMap<u16, Refusal> {
    let has_path_parameter =
        operation.parameters.iter().any(|parameter| parameter.location == ParameterIn::Path);
    let gateway = [
        (401, "Unauthorized", operation.access == Access::SignedIn),
        (403, "Forbidden", operation.access == Access::Principal),
        // An empty parameter, or one with a slash in it, makes a path without a route.
        (404, "Not Found", has_path_parameter),
        (413, "Request Entity Too Large", operation.body.is_some()),
        (429, "Too Many Requests", true),
        (500, "Internal Server Error", true),
        (503, "Service Unavailable", true),
    ];
    let mut refusals = BTreeMap::new();
    for kind in Kind::ALL.into_iter().filter(|kind| operation.problems.contains(kind)) {
        let entry = refusals.entry(kind.status().as_u16());
        entry.or_insert_with(|| Refusal { kinds: Vec::new(), gateway: None }).kinds.push(kind);
    }
    for (status, message, _) in gateway.into_iter().filter(|(_, _, refuses)| *refuses) {
        let entry = refusals.entry(status).or_insert_with(|| Refusal { kinds: Vec::new(), gateway: None });
        entry.gateway = Some(message);
    }
    refusals
}

fn security(access: Access) -> Value {
    match access {
        Access::Everyone => json!([]),
        Access::SignedIn => json!([{ACCESS_TOKEN: []}]),
        Access::Principal => json!([{SIGNATURE: []}]),
        Access::Provider => json!([{PROVIDER: []}]),
    }
}

fn security_schemes() -> Value {
    json!({
        ACCESS_TOKEN: {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "An access token of the Cognito user pool. An ID token is refused.",
        },
        SIGNATURE: {
            "type": "apiKey", "in": "header", "name": "Authorization",
            "description": "AWS Signature Version 4 for the service `execute-api`, by a principal that may invoke \
                            the route.",
            "x-amazon-apigateway-authtype": "awsSigv4",
        },
        PROVIDER: {
            "type": "apiKey", "in": "header", "name": "Stripe-Signature",
            "description": "The payment provider's signature of the body.",
        },
    })
}

fn headers() -> Value {
    json!({
        "Version": {
            "description": "The version of the object in quotes, as `If-Match` takes it; with a digest behind a point if the \
                            answer shows more than the object, as `If-None-Match` takes it.",
            "required": true,
            "schema": {"type": "string", "pattern": "^\"[0-9]+(\\.[A-Za-z0-9_-]{11})?\"$"},
            "example": "\"1\"",
        },
        "FileTag": {
            "description": "The version of the file in quotes, as `If-None-Match` takes it.",
            "required": true,
            "schema": {"type": "string", "pattern": "^\"[^\"]+\"$"},
            "example": "\"5f0c1e8a\"",
        },
        "Trace": trace(true, ""),
        "TraceOfProblem": trace(false, " API Gateway's own answers do not have it."),
        "Challenge": {
            "description": "How to authenticate (RFC 9110, section 11.6.1).",
            // API Gateway answers some unsigned and unauthorized requests itself.
            "required": false,
            "schema": {"type": "string"},
            "example": problem::BEARER,
        },
        "RetryAfter": {
            "description": "Seconds to wait before a retry. API Gateway's own answers do not have it.",
            "required": false,
            "schema": {"type": "integer", "minimum": 1},
            "example": 1,
        },
    })
}

/// The header `traceresponse`, in the form of a `traceparent`.
fn trace(required: bool, exception: &str) -> Value {
    json!({
        "description": format!(
            "The request's place in its trace: 00, the trace's id, the span's id, and 01 if the trace is sampled (W3C Trace \
             Context, `traceresponse`).{exception}"
        ),
        "required": required,
        "schema": {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$"},
        "example": "00-69f868da4a5b6c7d8e9f0a1b2c3d4e5f-53995c3f42cd8ad8-01",
    })
}

/// The component schemas: those of requests and those of answers.
struct Schemas {
    sent: SchemaGenerator,
    answered: SchemaGenerator,
    /// Definitions in requests that may have more fields than the server knows.
    open: BTreeSet<String>,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            sent: settings.clone().for_deserialize().into_generator(),
            answered: settings.for_serialize().into_generator(),
            open: BTreeSet::new(),
        }
    }

    fn sent(&mut self, schema: fn(&mut SchemaGenerator) -> Schema, open: bool) -> Value {
        let before: BTreeSet<String> = self.sent.definitions().keys().cloned().collect();
        let mut schema = schema(&mut self.sent).to_value();
        if open {
            let new = self.sent.definitions().keys().filter(|name| !before.contains(*name));
            self.open.extend(new.cloned());
        }
        tidy(&mut schema);
        mark_sent(&mut schema);
        schema
    }

    fn answered(&mut self, schema: fn(&mut SchemaGenerator) -> Schema) -> Value {
        let mut schema = schema(&mut self.answered).to_value();
        tidy(&mut schema);
        schema
    }

    fn all(self) -> Value {
        let mut all: Map<String, Value> = self.answered.definitions().clone();
        all.values_mut().for_each(tidy);
        for (name, mut schema) in self.sent.definitions().clone() {
            tidy(&mut schema);
            if !self.open.contains(&name) {
                each_object(&mut schema, &mut |object| {
                    if object.contains_key("properties") {
                        object.insert("additionalProperties".to_owned(), json!(false));
                    }
                });
            }
            mark_sent(&mut schema);
            let name = if all.contains_key(&name) { format!("{name}{SENT}") } else { name };
            all.insert(name, schema);
        }
        all.insert(PROBLEM.to_owned(), problem_schema());
        all.insert(GATEWAY_MESSAGE.to_owned(), gateway_schema());
        all.insert(REFUSAL.to_owned(), refusal_schema());
        Value::Object(all)
    }
}

/// The suffix of a definition of requests if answers have one with the same name.
const SENT: &str = "Input";

/// Marks each reference in a request. Only at the end is it known which definitions answers have too: see [`resolved`].
fn mark_sent(schema: &mut Value) {
    each_object(schema, &mut |object| {
        if let Some(Value::String(reference)) = object.get_mut("$ref") {
            reference.push_str(SENT);
        }
    });
}

/// The document, in which each marked reference leads to an existing definition.
fn resolved(mut document: Value) -> Value {
    let schemas = document["components"]["schemas"].clone();
    each_object(&mut document, &mut |object| {
        if let Some(Value::String(reference)) = object.get_mut("$ref")
            && let Some(name) = reference.strip_prefix("#/components/schemas/")
            && schemas.get(name).is_none()
            && let Some(shared) = reference.strip_suffix(SENT)
        {
            *reference = shared.to_owned();
        }
    });
    document
}

fn problem_schema() -> Value {
    let types: Vec<String> = Kind::ALL.iter().map(|kind| kind.uri()).collect();
    let statuses: BTreeSet<u16> = Kind::ALL.iter().map(|kind| kind.status().as_u16()).collect();
    json!({
        "description": "An error as problem details (RFC 9457).",
        "type": "object",
        "properties": {
            "type": {"type": "string", "format": "uri", "enum": types, "description": "The kind of problem, as a URN."},
            "title": {"type": "string", "description": "The kind of problem, as text."},
            "status": {"type": "integer", "enum": statuses, "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What went wrong in this request."},
            "instance": {
                "type": "string", "format": "uri",
                "description": "The id of this occurrence, by which operators find it in the log.",
            },
            "errors": {
                "type": "array",
                "minItems": 1,
                "description": "The invalid fields, if `type` is `urn:madang:problem:invalid`.",
                "items": {
                    "type": "object",
                    "properties": {
                        "pointer": {
                            "type": "string",
                            "description": "The field: a JSON pointer into the body, or a parameter's name after a \
                                            slash.",
                        },
                        "detail": {"type": "string", "description": "What is wrong with it."},
                    },
                    "required": ["pointer", "detail"],
                },
            },
        },
        "required": ["type", "title", "status", "detail", "instance"],
    })
}

fn gateway_schema() -> Value {
    json!({
        "description": "API Gateway's own answer to a request that it refuses.",
        "type": "object",
        "properties": {"message": {"type": ["string", "null"], "description": "The reason."}},
        "required": ["message"],
    })
}

fn refusal_schema() -> Value {
    json!({
        "description": "An error: a function's, or API Gateway's own.",
        "oneOf": [reference(PROBLEM), reference(GATEWAY_MESSAGE)],
    })
}

/// Simplifies a schema that schemars generated.
pub fn tidy(schema: &mut Value) {
    each_object(schema, &mut |object| {
        // The sizes of Rust's integers do not concern clients: actual limits are given as `minimum` and `maximum`.
        if object.get("type") == Some(&json!("integer")) {
            object.remove("format");
        }
        variants_as_enum(object);
        absent_rather_than_null(object);
        if let Some(Value::String(description)) = object.get_mut("description") {
            *description = description.replace("[`", "`").replace("`]", "`");
        }
    });
}

/// Turns an enum of constants from `oneOf` into `enum`, and the descriptions of its variants into a list.
fn variants_as_enum(object: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = object.get("oneOf") else { return };
    if !variants.iter().all(|variant| variant["const"].is_string()) {
        return;
    }
    let names: Vec<Value> = variants.iter().map(|variant| variant["const"].clone()).collect();
    let lines = variants.iter().map(|variant| {
        let (name, about) = (variant["const"].as_str(), variant["description"].as_str());
        format!("- `{}`: {}", name.unwrap_or_default(), about.unwrap_or_default())
    });
    let list = lines.collect::<Vec<_>>().join("\n");
    let heading = object.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{heading}\n\n{list}");
    object.remove("oneOf");
    object.insert("type".to_owned(), json!("string"));
    object.insert("enum".to_owned(), json!(names));
    object.insert("description".to_owned(), json!(description));
}

/// Removes `null` from optional fields: without a value they are absent.
fn absent_rather_than_null(object: &mut Map<String, Value>) {
    let required: BTreeSet<String> =
        object.get("required").and_then(Value::as_array).map_or_else(BTreeSet::new, |names| {
            names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
        });
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    for (_, property) in properties.iter_mut().filter(|(name, _)| !required.contains(*name)) {
        let Some(property) = property.as_object_mut() else { continue };
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                property.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(kinds)) = property.get_mut("anyOf") {
            kinds.retain(|kind| kind["type"] != "null");
            if let [only] = kinds.as_slice() {
                let only = only.as_object().cloned().unwrap_or_default();
                property.remove("anyOf");
                property.extend(only);
            }
        }
    }
}

/// Calls `act` with each object of a schema, inner objects first.
pub fn each_object(value: &mut Value, act: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(|inner| each_object(inner, act));
            act(object);
        }
        Value::Array(values) => values.iter_mut().for_each(|inner| each_object(inner, act)),
        _ => {}
    }
}

/// `stale-version` as `StaleVersion`.
fn pascal(name: &str) -> String {
    let parts = name.split('-').map(|part| part[..1].to_uppercase() + &part[1..]);
    parts.collect()
}
