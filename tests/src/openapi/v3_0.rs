//! Converts the OpenAPI 3.1 document into OpenAPI 3.0.3, which many tools still require: progenitor and API Gateway's import,
//! for example.
//!
//! The conversion is strict. A field, a keyword or a combination that it does not know is an error, because 3.0 would give
//! it another meaning or none, and nobody would notice.

use serde_json::{Map, Value, json};

use super::EXACT;

/// The version of the specification that the converted document follows.
const VERSION: &str = "3.0.3";

/// The document in the older format.
///
/// # Errors
///
/// If the older format cannot express it, a sentence for each place.
pub fn converted(document: &Value) -> Result<Value, Vec<String>> {
    let mut conversion = Conversion { problems: Vec::new() };
    let mut converted = conversion.object(Kind::Document, document, "#");
    converted["openapi"] = json!(VERSION);
    if conversion.problems.is_empty() { Ok(converted) } else { Err(conversion.problems) }
}

/// A kind of object in an OpenAPI document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Document,
    Info,
    License,
    Server,
    Tag,
    Components,
    PathItem,
    Operation,
    /// A parameter or a header: they have the same fields.
    Parameter,
    RequestBody,
    Response,
    MediaType,
    Link,
    Example,
    SecurityScheme,
    Schema,
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Holds {
    /// A value that both versions write alike.
    Same,
    /// An object of a kind.
    One(Kind),
    /// A list of such objects.
    List(Kind),
    /// Such objects by their names.
    Named(Kind),
}

impl Kind {
    /// What a field of such an object holds, or `None` if 3.0 does not have that field. [`Conversion::schema`] handles the
    /// keywords of schemas that 3.0 writes in another way.
    fn field(self, name: &str) -> Option<Holds> {
        use Holds::{List, Named, One, Same};
        Some(match (self, name) {
            (Self::Document, "openapi" | "security" | "externalDocs")
            | (Self::Info, "title" | "description" | "termsOfService" | "contact" | "version")
            | (Self::License, "name" | "url")
            | (Self::Server, "url" | "description" | "variables")
            | (Self::Tag, "name" | "description" | "externalDocs")
            | (Self::PathItem, "summary" | "description")
            | (
                Self::Operation,
                "tags" | "summary" | "description" | "externalDocs" | "operationId" | "deprecated"
                | "security",
            )
            | (
                Self::Parameter,
                "name" | "in" | "description" | "required" | "deprecated" | "style" | "explode" | "example",
            )
            | (Self::RequestBody, "description" | "required")
            | (Self::Response, "description")
            | (Self::MediaType, "example")
            | (Self::Link, "operationId" | "parameters" | "description")
            | (Self::Example, "summary" | "description" | "value")
            | (
                Self::SecurityScheme,
                "type" | "description" | "name" | "in" | "scheme" | "bearerFormat" | "flows"
                | "openIdConnectUrl",
            )
            | (
                Self::Schema,
                "title" | "description" | "type" | "format" | "enum" | "default" | "deprecated" | "readOnly"
                | "writeOnly" | "multipleOf" | "minimum" | "maximum" | "minLength" | "maxLength" | "pattern"
                | "minItems" | "maxItems" | "uniqueItems" | "minProperties" | "maxProperties" | "required",
            ) => Same,
            (Self::Document, "info") => One(Self::Info),
            (Self::Document | Self::PathItem | Self::Operation, "servers") => List(Self::Server),
            (Self::Document, "tags") => List(Self::Tag),
            (Self::Document, "paths") => Named(Self::PathItem),
            (Self::Document, "components") => One(Self::Components),
            (Self::Info, "license") => One(Self::License),
            (Self::Components, "schemas") | (Self::Schema, "properties") => Named(Self::Schema),
            (Self::Components | Self::Operation, "responses") => Named(Self::Response),
            (Self::Components, "parameters") | (Self::Components | Self::Response, "headers") => {
                Named(Self::Parameter)
            }
            (Self::Components, "requestBodies") => Named(Self::RequestBody),
            (Self::Components, "securitySchemes") => Named(Self::SecurityScheme),
            (Self::Components | Self::Response, "links") => Named(Self::Link),
            (Self::Components | Self::Parameter | Self::MediaType, "examples") => Named(Self::Example),
            (Self::PathItem, "get" | "put" | "post" | "delete" | "options" | "head" | "patch" | "trace") => {
                One(Self::Operation)
            }
            (Self::PathItem | Self::Operation, "parameters") => List(Self::Parameter),
            (Self::Operation, "requestBody") => One(Self::RequestBody),
            (Self::Parameter | Self::MediaType, "schema") | (Self::Schema, "items" | "not") => {
                One(Self::Schema)
            }
            (Self::RequestBody | Self::Response, "content") => Named(Self::MediaType),
            (Self::Schema, "allOf" | "anyOf" | "oneOf") => List(Self::Schema),
            _ => return None,
        })
    }
}

struct Conversion {
    /// A sentence for each place that cannot be converted.
    problems: Vec<String>,
}

impl Conversion {
    fn refuse(&mut self, at: &str, problem: &str) {
        self.problems.push(format!("OpenAPI 3.0 cannot express {at}: {problem}."));
    }

    /// An object, `at` a JSON pointer.
    fn object(&mut self, kind: Kind, value: &Value, at: &str) -> Value {
        let Some(fields) = value.as_object() else {
            // JSON Schema's `true` and `false`.
            self.refuse(at, "it is no object");
            return Value::Null;
        };
        if kind == Kind::Schema {
            return self.schema(fields, at);
        }
        if fields.contains_key("$ref") {
            // In 3.1 a reference may have a summary and a description of its own.
            if fields.len() > 1 {
                self.refuse(at, "a reference has other fields beside it");
            }
            return value.clone();
        }
        let mut converted = Map::new();
        for (name, inner) in fields {
            let at = below(at, name);
            match name.as_str() {
                // A license expression takes the place of a URL. The name can hold it.
                "identifier" if kind == Kind::License => {
                    if fields.get("name") != Some(inner) {
                        self.refuse(&at, "the license's name is not its identifier");
                    }
                }
                "type" if kind == Kind::SecurityScheme && inner == "mutualTLS" => {
                    self.refuse(&at, "it has no such security scheme");
                }
                _ => self.field(kind, name, inner, &at, &mut converted),
            }
        }
        Value::Object(converted)
    }

    /// A field that is not written in another way.
    fn field(&mut self, kind: Kind, name: &str, value: &Value, at: &str, into: &mut Map<String, Value>) {
        let converted = match (kind.field(name), value) {
            // `false` is no schema of 3.0, but extensions hold any value.
            _ if name == EXACT && value.is_object() => self.object(Kind::Schema, value, at),
            _ if name.starts_with("x-") => value.clone(),
            (None, _) => {
                self.refuse(at, "it has no such field");
                return;
            }
            (Some(Holds::Same), _) => value.clone(),
            (Some(Holds::One(kind)), _) => self.object(kind, value, at),
            (Some(Holds::List(kind)), Value::Array(values)) => {
                let values = values.iter().enumerate();
                values
                    .map(|(index, value)| self.object(kind, value, &below(at, &index.to_string())))
                    .collect()
            }
            (Some(Holds::Named(kind)), Value::Object(values)) => {
                let values = values.iter();
                let values =
                    values.map(|(name, value)| (name.clone(), self.object(kind, value, &below(at, name))));
                Value::Object(values.collect())
            }
            (Some(Holds::List(_) | Holds::Named(_)), _) => {
                self.refuse(at, "it is neither a list nor an object");
                return;
            }
        };
        self.insert(name, converted, at, into);
    }

    fn schema(&mut self, keywords: &Map<String, Value>, at: &str) -> Value {
        let mut converted = Map::new();
        let into = &mut converted;
        for (name, value) in keywords {
            let at = &below(at, name);
            match name.as_str() {
                // 3.0 ignores what is beside a reference, so the reference becomes a part.
                "$ref" if keywords.len() > 1 => self.insert("allOf", json!([{"$ref": value}]), at, into),
                "$ref" => self.insert(name, value.clone(), at, into),
                "type" => self.types(value, at, into),
                "const" => self.insert("enum", json!([value]), at, into),
                "exclusiveMinimum" => self.bound("minimum", name, value, at, into),
                "exclusiveMaximum" => self.bound("maximum", name, value, at, into),
                // Several examples of a schema are one in 3.0.
                "examples" => match value.as_array().and_then(|examples| examples.first()) {
                    Some(first) => self.insert("example", first.clone(), at, into),
                    None => self.refuse(at, "it is no list with an example"),
                },
                "additionalProperties" if value.is_boolean() => self.insert(name, value.clone(), at, into),
                "additionalProperties" => {
                    let schema = self.object(Kind::Schema, value, at);
                    self.insert(name, schema, at, into);
                }
                _ => self.field(Kind::Schema, name, value, at, into),
            }
        }
        Value::Object(converted)
    }

    /// Adds a field, which must not replace another: two keywords of 3.1 can become the same one.
    fn insert(&mut self, name: &str, value: Value, at: &str, into: &mut Map<String, Value>) {
        if into.insert(name.to_owned(), value).is_some() {
            self.refuse(at, &format!("another keyword beside it becomes `{name}` too"));
        }
    }

    /// `type`: one, one and `null`, or `null` alone.
    fn types(&mut self, value: &Value, at: &str, into: &mut Map<String, Value>) {
        let types = value.as_array().map_or_else(|| vec![value], |types| types.iter().collect());
        let (null, others): (Vec<&Value>, Vec<&Value>) = types.into_iter().partition(|name| *name == "null");
        match others.as_slice() {
            // 3.0 has no type `null`, so this is a string or null, of which only null is allowed. Many write `nullable` beside
            // an `allOf` of a reference instead, but there `null` is not valid: `nullable` extends the `type` beside it.
            [] => {
                self.insert("type", json!("string"), at, into);
                self.insert("enum", json!([Value::Null]), at, into);
            }
            [only] => self.insert("type", (*only).clone(), at, into),
            _ => self.refuse(at, "it is more than one type"),
        }
        if !null.is_empty() {
            self.insert("nullable", json!(true), at, into);
        }
    }

    /// An exclusive bound, which 3.0 writes as a bound and whether it is exclusive.
    fn bound(&mut self, bound: &str, name: &str, value: &Value, at: &str, into: &mut Map<String, Value>) {
        if !value.is_number() {
            return self.refuse(at, "it is no number");
        }
        self.insert(bound, value.clone(), at, into);
        self.insert(name, json!(true), at, into);
    }
}

/// The JSON pointer of a member of what `at` points to.
fn below(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document whose only schema is the given one.
    fn with_schema(schema: &Value) -> Value {
        json!({"openapi": "3.1.1", "components": {"schemas": {"S": schema}}})
    }

    #[track_caller]
    fn becomes(schema: &Value, expected: &Value) {
        let converted = converted(&with_schema(schema));
        assert_eq!(
            converted.map(|mut whole| whole["components"]["schemas"]["S"].take()),
            Ok(expected.clone())
        );
    }

    #[track_caller]
    fn is_refused(document: &Value, expected: &str) {
        assert_eq!(converted(document), Err(vec![expected.to_owned()]));
    }

    #[track_caller]
    fn schema_is_refused(schema: &Value, at: &str, problem: &str) {
        let expected = format!("OpenAPI 3.0 cannot express #/components/schemas/S{at}: {problem}.");
        is_refused(&with_schema(schema), &expected);
    }

    #[test]
    fn keywords_of_both_versions_stay_and_so_do_extensions() {
        let same = json!({
            "type": "object", "description": "D", "required": ["a"], "additionalProperties": false, "x-own": [1],
            "properties": {
                "a": {"type": "string", "pattern": "^a$", "minLength": 1, "enum": ["a"], "format": "uri"},
                "b": {"type": "array", "items": {"$ref": "#/components/schemas/S"}, "maxItems": 5},
                "c": {"oneOf": [{"type": "integer", "minimum": 1}, {"type": "boolean", "default": true}]},
                // The name of a field is no keyword.
                "const": {"type": "number", "maximum": 2.5},
            },
        });
        becomes(&same, &same);
    }

    #[test]
    fn a_type_or_null_becomes_a_nullable_type() {
        becomes(
            &json!({"type": ["string", "null"], "maxLength": 5}),
            &json!({"type": "string", "nullable": true, "maxLength": 5}),
        );
        becomes(&json!({"type": ["string"]}), &json!({"type": "string"}));
    }

    #[test]
    fn null_alone_becomes_a_string_or_null_of_which_only_null_is_allowed() {
        let reference = json!({"$ref": "#/components/schemas/S"});
        becomes(
            &json!({"description": "D", "anyOf": [reference, {"type": "null"}]}),
            &json!({"description": "D", "anyOf": [reference, {"type": "string", "nullable": true, "enum": [null]}]}),
        );
    }

    #[test]
    fn a_reference_with_a_description_becomes_a_part_so_that_the_description_is_not_ignored() {
        let reference = json!({"$ref": "#/components/schemas/S"});
        becomes(&reference, &reference);
        becomes(
            &json!({"$ref": "#/components/schemas/S", "description": "D"}),
            &json!({"allOf": [reference], "description": "D"}),
        );
    }

    #[test]
    fn a_constant_becomes_an_enum_of_one() {
        becomes(&json!({"type": "string", "const": "*"}), &json!({"type": "string", "enum": ["*"]}));
    }

    #[test]
    fn an_exclusive_bound_becomes_a_bound_that_is_exclusive() {
        becomes(
            &json!({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9}),
            &json!({
                "type": "integer", "minimum": 0, "exclusiveMinimum": true, "maximum": 9, "exclusiveMaximum": true,
            }),
        );
    }

    #[test]
    fn the_first_of_a_schemas_examples_becomes_its_example() {
        becomes(
            &json!({"type": "string", "examples": ["a", "b"]}),
            &json!({"type": "string", "example": "a"}),
        );
    }

    #[test]
    fn schemas_are_converted_wherever_they_are() {
        let (newer, older) = (json!({"const": 1}), json!({"enum": [1]}));
        for (container, pointer) in [
            (json!({"items": newer}), "/items"),
            (json!({"not": newer}), "/not"),
            (json!({"allOf": [newer]}), "/allOf/0"),
            (json!({"properties": {"p": newer}}), "/properties/p"),
            (json!({"additionalProperties": newer}), "/additionalProperties"),
            (json!({"anyOf": [newer]}), "/anyOf/0"),
            (json!({"oneOf": [newer]}), "/oneOf/0"),
        ] {
            let converted = converted(&with_schema(&container)).unwrap();
            let found = converted.pointer(&format!("/components/schemas/S{pointer}"));
            assert_eq!(found, Some(&older), "{container}");
        }
        let media = |schema: &Value| json!({"a/b": {"schema": schema, "x-exact-schema": schema}});
        let document = |version: &str, schema: &Value| {
            let answer = json!({
                "description": "D", "content": media(schema), "headers": {"H": {"schema": schema}},
            });
            let operation = json!({
                "parameters": [{"name": "p", "in": "query", "schema": schema}],
                "requestBody": {"content": media(schema)},
                "responses": {"200": answer},
            });
            json!({
                "openapi": version,
                "paths": {"/p": {"put": operation, "parameters": [{"name": "q", "in": "query", "schema": schema}]}},
                "components": {"responses": {"R": answer}, "headers": {"H": {"schema": schema}}},
            })
        };
        assert_eq!(converted(&document("3.1.1", &newer)), Ok(document("3.0.3", &older)));
    }

    #[test]
    fn a_license_keeps_its_name_and_loses_its_identifier() {
        let licensed = |license: &Value| json!({"openapi": "3.1.1", "info": {"license": license}});
        let converted = converted(&licensed(&json!({"name": "MIT", "identifier": "MIT"}))).unwrap();
        assert_eq!(converted["info"]["license"], json!({"name": "MIT"}));
        is_refused(
            &licensed(&json!({"name": "Ours", "identifier": "MIT"})),
            "OpenAPI 3.0 cannot express #/info/license/identifier: the license's name is not its identifier.",
        );
    }

    #[test]
    fn an_unknown_field_or_keyword_is_refused_with_its_place() {
        let refused = |place: &str| format!("OpenAPI 3.0 cannot express {place}: it has no such field.");
        is_refused(
            &json!({"openapi": "3.1.1", "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema"}),
            &refused("#/jsonSchemaDialect"),
        );
        is_refused(&json!({"openapi": "3.1.1", "info": {"summary": "S"}}), &refused("#/info/summary"));
        is_refused(
            &json!({"openapi": "3.1.1", "paths": {"/a/b": {"get": {"responses": {}, "callbacks": {}}}}}),
            &refused("#/paths/~1a~1b/get/callbacks"),
        );
        for keyword in
            ["prefixItems", "patternProperties", "if", "$defs", "contentEncoding", "dependentRequired"]
        {
            schema_is_refused(&json!({keyword: {}}), &format!("/{keyword}"), "it has no such field");
        }
    }

    #[test]
    fn a_combination_that_would_lose_a_condition_is_refused() {
        let twice = |keyword: &str| format!("another keyword beside it becomes `{keyword}` too");
        schema_is_refused(&json!({"type": ["string", "integer"]}), "/type", "it is more than one type");
        schema_is_refused(&json!({"type": "null", "enum": [null]}), "/type", &twice("enum"));
        schema_is_refused(&json!({"$ref": "#/S", "allOf": []}), "/allOf", &twice("allOf"));
        schema_is_refused(&json!({"const": 1, "enum": [1, 2]}), "/enum", &twice("enum"));
        schema_is_refused(&json!({"exclusiveMinimum": 1, "minimum": 3}), "/minimum", &twice("minimum"));
        schema_is_refused(&json!({"exclusiveMinimum": true}), "/exclusiveMinimum", "it is no number");
        schema_is_refused(&json!({"examples": []}), "/examples", "it is no list with an example");
        schema_is_refused(&json!({"not": true}), "/not", "it is no object");
        is_refused(
            &json!({"openapi": "3.1.1", "components": {"responses": {"R": {"$ref": "#/a", "description": "D"}}}}),
            "OpenAPI 3.0 cannot express #/components/responses/R: a reference has other fields beside it.",
        );
        is_refused(
            &json!({"openapi": "3.1.1", "components": {"securitySchemes": {"S": {"type": "mutualTLS"}}}}),
            "OpenAPI 3.0 cannot express #/components/securitySchemes/S/type: it has no such security scheme.",
        );
    }

    #[test]
    fn every_place_that_cannot_be_converted_is_named() {
        let document = with_schema(&json!({"if": {}, "then": {}}));
        let places = converted(&document).unwrap_err();
        assert_eq!(places.len(), 2, "{places:?}");
    }
}
