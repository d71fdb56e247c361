//! The contract of an endpoint, from which `infra/openapi.json` is generated.
//!
//! Compiled only with the feature `contract`, which no deployed function has. Each service's `contract` module describes its
//! endpoints with [`operation!`](crate::operation) and the types that its handlers read and answer.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;
pub use serde_json::json;

use crate::{
    idempotency,
    page::{DEFAULT_LIMIT, MAX_LIMIT},
    precondition,
    problem::{FieldError, Kind, MAX_BODY_KIB, Problem},
};

/// Generates the schema of a type.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Begins an [`Operation`]: the function that serves it, its method, its path, and its handler. Does not compile without
/// that handler.
#[macro_export]
macro_rules! operation {
    ($function:literal, $method:literal, $path:literal, $handler:path) => {{
        _ = $handler;
        $crate::contract::Operation::new($function, $method, $path, stringify!($handler))
    }};
}

/// Who may call an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone, without credentials.
    Everyone,
    /// Callers with an access token of the user pool.
    SignedIn,
    /// AWS principals that are allowed to invoke the route and that sign the request (`SigV4`).
    Principal,
    /// The payment provider, which signs the body.
    Provider,
}

/// Where a parameter is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterIn {
    /// In the path.
    Path,
    /// In the query.
    Query,
    /// In a header.
    Header,
}

/// A parameter of a request.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it is sent.
    pub location: ParameterIn,
    /// Whether a request without it is refused.
    pub required: bool,
    /// Its meaning.
    pub description: String,
    /// The schema of its value.
    pub schema: SchemaOf,
    /// An example of its value.
    pub example: Value,
}

/// The body of a request.
#[derive(Clone, Debug)]
pub struct Body {
    /// Its schema.
    pub schema: SchemaOf,
    /// Whether unknown fields are ignored; otherwise they are refused.
    pub ignores_unknown_fields: bool,
    /// An example.
    pub example: Value,
}

/// The body of an answer.
#[derive(Clone, Debug)]
pub struct Content {
    /// Its media type.
    pub media_type: &'static str,
    /// Its schema.
    pub schema: SchemaOf,
    /// An example.
    pub example: Value,
}

/// A header of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The version of the aggregate in the answer, for `If-Match`, and of this representation, for `If-None-Match`.
    ETag,
    /// Where the created entity is, relative to the request's own URL: an example.
    Location(&'static str),
    /// The version of a file, for `If-None-Match`.
    FileETag,
}

/// An operation that can be called next with values from an answer (an OpenAPI link).
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The operation, by its id.
    pub operation: &'static str,
    /// Its parameters, each with the expression of its value: `("id", "$response.body#/id")`.
    pub parameters: &'static [(&'static str, &'static str)],
}

/// An answer to a successful request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What it means.
    pub description: &'static str,
    /// The body, in each media type that it may have; empty if there is no body.
    pub content: Vec<Content>,
    /// The headers that it always has.
    pub headers: Vec<Header>,
    /// What can be called next.
    pub links: Vec<Link>,
}

impl Answer {
    fn empty(status: u16, description: &'static str) -> Self {
        Self { status, description, content: Vec::new(), headers: Vec::new(), links: Vec::new() }
    }
}

/// An endpoint.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The Lambda function that serves it.
    pub function: &'static str,
    /// The HTTP method.
    pub method: &'static str,
    /// The path, as the template's route has it.
    pub path: &'static str,
    /// The handler's path in its crate.
    pub handler: &'static str,
    /// A name that never changes: generated clients call the operation by it.
    pub id: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// Further explanation.
    pub description: &'static str,
    /// Who may call it.
    pub access: Access,
    /// The group of the user pool that a caller must be in.
    pub group: Option<&'static str>,
    /// The parameters.
    pub parameters: Vec<Parameter>,
    /// The body, if it takes one.
    pub body: Option<Body>,
    /// The answers to a successful request.
    pub answers: Vec<Answer>,
    /// The problems that it can answer. [`Kind::Internal`] and [`Kind::Unavailable`] are always among them.
    pub problems: Vec<Kind>,
}

impl Operation {
    /// An endpoint that everyone may call. [`Self::named`] must follow, because it has no id yet.
    pub fn new(
        function: &'static str,
        method: &'static str,
        path: &'static str,
        handler: &'static str,
    ) -> Self {
        Self {
            function,
            method,
            path,
            handler,
            id: "",
            summary: "",
            description: "",
            access: Access::Everyone,
            group: None,
            parameters: Vec::new(),
            body: None,
            // A GET can ask for what the client does not have yet.
            answers: if method == "GET" { vec![Answer::empty(304, UNCHANGED)] } else { Vec::new() },
            // Every request can have a malformed header, or a query with an unknown parameter.
            problems: vec![Kind::Unreadable, Kind::Invalid, Kind::Internal, Kind::Unavailable],
        }
        .refuses(if method == "POST" { &[] } else { &[Kind::StaleVersion] })
    }

    /// Sets its id, and what it does in a few words.
    #[must_use]
    pub fn named(self, id: &'static str, summary: &'static str) -> Self {
        Self { id, summary, ..self }
    }

    /// Adds further explanation.
    #[must_use]
    pub fn about(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    /// Only signed-in callers may call it.
    #[must_use]
    pub fn signed_in(self) -> Self {
        Self { access: Access::SignedIn, ..self }.refuses(&[Kind::Unauthenticated])
    }

    /// Only callers with a profile may call it.
    #[must_use]
    pub fn with_profile(self) -> Self {
        self.signed_in().refuses(&[Kind::ProfileRequired, Kind::ProfileDeleted])
    }

    /// Only members of a group of the user pool may call it.
    #[must_use]
    pub fn for_group(self, group: &'static str) -> Self {
        Self { group: Some(group), ..self.signed_in() }.refuses(&[Kind::Forbidden])
    }

    /// Only AWS principals may call it.
    #[must_use]
    pub fn for_principals(self) -> Self {
        // API Gateway answers unsigned requests with 403; the handlers do not depend on that.
        Self { access: Access::Principal, ..self }.refuses(&[Kind::Unauthenticated])
    }

    /// Only the payment provider may call it.
    #[must_use]
    pub fn for_provider(self) -> Self {
        Self { access: Access::Provider, ..self }.refuses(&[Kind::Unauthenticated])
    }

    /// Adds problems that it can answer.
    #[must_use]
    pub fn refuses(mut self, kinds: &[Kind]) -> Self {
        self.problems.extend(kinds);
        self
    }

    /// Adds a parameter of the path, and 404, because it can name something that does not exist.
    #[must_use]
    pub fn path<T: JsonSchema>(self, name: &'static str, description: &str, example: &str) -> Self {
        self.parameter::<T>(ParameterIn::Path, true, name, description, json!(example))
            .refuses(&[Kind::NotFound])
    }

    /// Adds a parameter of the query, and 422, because its value can be invalid.
    #[must_use]
    pub fn query<T: JsonSchema>(self, name: &'static str, description: &str, example: Value) -> Self {
        self.parameter::<T>(ParameterIn::Query, false, name, description, example).refuses(&[Kind::Invalid])
    }

    /// Adds an optional header.
    #[must_use]
    pub fn header<T: JsonSchema>(self, name: &'static str, description: &str, example: &str) -> Self {
        self.parameter::<T>(ParameterIn::Header, false, name, description, json!(example))
    }

    fn parameter<T: JsonSchema>(
        mut self,
        location: ParameterIn,
        required: bool,
        name: &'static str,
        description: &str,
        example: Value,
    ) -> Self {
        let (description, schema) = (description.to_owned(), subschema::<T>);
        self.parameters.push(Parameter { name, location, required, description, schema, example });
        self
    }

    /// Adds `limit` and `cursor`: it answers with a page of a list.
    #[must_use]
    pub fn paginated(self) -> Self {
        self.query::<Limit>("limit", "The maximum number of items on the page.", json!(DEFAULT_LIMIT))
            .query::<PageCursor>(
            "cursor",
            "The `next_cursor` of the previous page. A cursor of another list is refused.",
            Value::Null,
        )
    }

    /// Adds `Idempotency-Key`: it creates something, once for all requests with the same key.
    #[must_use]
    pub fn creates(self) -> Self {
        self.takes_a_key(
            "A key for this request. A repeat with the same key and body gets the first answer; with another body it is \
             refused. Without a key, every request creates something new.",
        )
    }

    /// One person may call it so many times an hour.
    #[must_use]
    pub fn limited_per_person(self) -> Self {
        self.refuses(&[Kind::RateLimited])
    }

    /// Adds `Idempotency-Key`: it creates something that exists at most once per caller. `repeat` says what a repeat does.
    #[must_use]
    pub fn creates_once_per_caller(self, repeat: &str) -> Self {
        self.takes_a_key(&format!(
            "A key for this request. The same key with another body is refused. {repeat}"
        ))
    }

    fn takes_a_key(self, description: &str) -> Self {
        self.header::<Key>("Idempotency-Key", description, "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"")
            .refuses(&[Kind::Unreadable, Kind::IdempotencyKeyReused])
    }

    /// Requires `If-Match`: it changes the version that the header names, which must be the current one.
    #[must_use]
    pub fn requires_if_match(self) -> Self {
        self.parameter::<EntityTags>(ParameterIn::Header, true, "If-Match", IF_MATCH, json!(FIRST_VERSION))
            .refuses(&[Kind::Unreadable, Kind::StaleVersion, Kind::Conflict, Kind::VersionRequired])
    }

    /// Accepts `If-Match`. Without it, the current version is meant. Adds 409 too, because another request can change that version
    /// at the same time.
    #[must_use]
    pub fn accepts_if_match(self) -> Self {
        self.header::<EntityTags>("If-Match", IF_MATCH, FIRST_VERSION).refuses(&[
            Kind::Unreadable,
            Kind::StaleVersion,
            Kind::Conflict,
        ])
    }

    /// Accepts `If-None-Match: *`, with which it creates something, and `If-Match`, with which it changes something that exists.
    #[must_use]
    pub fn accepts_conditions(self) -> Self {
        self.header::<EntityTags>("If-Match", IF_MATCH, FIRST_VERSION)
            .header::<Asterisk>("If-None-Match", "`*` to create it if it does not exist.", "*")
            .refuses(&[Kind::Unreadable, Kind::StaleVersion, Kind::Conflict, Kind::VersionRequired])
    }

    /// Adds a JSON body, and the problems of one that cannot be accepted.
    #[must_use]
    pub fn takes<T: JsonSchema>(mut self, example: Value) -> Self {
        self.body = Some(Body { schema: subschema::<T>, ignores_unknown_fields: false, example });
        self.refuses(&[Kind::Unreadable, Kind::TooLarge, Kind::UnsupportedMediaType, Kind::Invalid])
    }

    /// Adds a JSON body that is taken as raw bytes: the `Content-Type` is not checked and unknown fields are ignored. Unlike
    /// [`Self::takes`] it adds no problems; the caller does.
    #[must_use]
    pub fn takes_raw<T: JsonSchema>(mut self, example: Value) -> Self {
        self.body = Some(Body { schema: subschema::<T>, ignores_unknown_fields: true, example });
        self
    }

    /// Adds an answer with a JSON body.
    #[must_use]
    pub fn answers<T: JsonSchema>(self, status: u16, description: &'static str, example: Value) -> Self {
        self.answers_as::<T>("application/json", status, description, example)
    }

    /// Adds an answer with a body of a media type. Called again for the same status, it adds another media type, and ignores the
    /// description.
    #[must_use]
    pub fn answers_as<T: JsonSchema>(
        mut self,
        media_type: &'static str,
        status: u16,
        description: &'static str,
        example: Value,
    ) -> Self {
        let content = Content { media_type, schema: subschema::<T>, example };
        match self.answers.last_mut() {
            Some(answer) if answer.status == status => answer.content.push(content),
            _ => self.answers.push(Answer { content: vec![content], ..Answer::empty(status, description) }),
        }
        self
    }

    /// Adds an answer without a body.
    #[must_use]
    pub fn answers_empty(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer::empty(status, description));
        self
    }

    /// Adds headers to the last answer. A GET whose answer has a tag can be repeated with `If-None-Match`.
    #[must_use]
    pub fn with_headers(mut self, headers: &[Header]) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.extend(headers);
        }
        let tag = headers.iter().find_map(|header| match header {
            Header::ETag => Some(FIRST_VERSION),
            Header::FileETag => Some(FIRST_FILE),
            Header::Location(_) => None,
        });
        match tag {
            Some(tag) if self.method == "GET" => {
                for answer in self.answers.iter_mut().filter(|answer| answer.status == 304) {
                    answer
                        .headers
                        .extend(headers.iter().filter(|header| !matches!(header, Header::Location(_))));
                }
                self.header::<EntityTags>("If-None-Match", KNOWN, tag)
            }
            _ => self,
        }
    }

    /// Adds an operation that can be called next with values from the last answer.
    #[must_use]
    pub fn leads_to(
        mut self,
        operation: &'static str,
        parameters: &'static [(&'static str, &'static str)],
    ) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.links.push(Link { operation, parameters });
        }
        self
    }
}

/// The condition under which a problem of this kind is answered.
pub fn meaning(kind: Kind) -> &'static str {
    match kind {
        Kind::Unreadable => "the body or a header is malformed",
        Kind::Unauthenticated => "the request has no credentials, or none that are valid",
        Kind::Forbidden => {
            "the caller may not do this: it belongs to someone else, or it requires the group `admin` or, to register, a \
             verified e-mail address"
        }
        Kind::ProfileRequired => "the caller is signed in but has no profile yet (`POST /users`)",
        Kind::ProfileDeleted => "the caller's profile has been deleted",
        Kind::NotFound => "it does not exist, or the caller may not know that it does",
        Kind::NoSuchPath => "the API has no such path, or not for this method",
        Kind::Conflict => {
            "the current state does not allow this, or another request changed it at the same time"
        }
        Kind::StaleVersion => {
            "`If-Match` does not name the current version, or `If-None-Match` names what exists"
        }
        Kind::TooLarge => "the body is larger than the endpoint accepts",
        Kind::UnsupportedMediaType => "the body is not `application/json`, or is compressed",
        Kind::Invalid => "fields of the body, or parameters of the query, are not valid",
        Kind::IdempotencyKeyReused => "the idempotency key was used before with another body",
        Kind::VersionRequired => "the request has no `If-Match`, which says what version it changes",
        Kind::RateLimited => "the caller has created as many of these as one person may within an hour",
        Kind::Internal => "an unexpected error",
        Kind::Unavailable => "a dependency is down or throttled; try again",
    }
}

/// An example of a problem of this kind.
pub fn example(kind: Kind) -> Problem {
    match kind {
        Kind::Invalid => Problem::invalid(vec![FieldError {
            pointer: "/title".to_owned(),
            detail: "must not be blank".to_owned(),
        }]),
        Kind::ProfileRequired => Problem::profile_required(),
        Kind::ProfileDeleted => Problem::profile_deleted(),
        Kind::NotFound => Problem::not_found("post"),
        Kind::NoSuchPath => Problem::no_such_path(),
        Kind::Forbidden => Problem::forbidden("post"),
        Kind::Conflict => Problem::concurrent_change(),
        Kind::StaleVersion => precondition::stale(),
        Kind::IdempotencyKeyReused => idempotency::reused(),
        Kind::VersionRequired => precondition::required(),
        Kind::RateLimited => Problem::rate_limited(30, "posts", 600),
        Kind::TooLarge => Problem::too_large(MAX_BODY_KIB),
        Kind::UnsupportedMediaType => Problem::unsupported_media_type(),
        Kind::Unreadable => Problem::malformed_json(1, 12),
        Kind::Internal => Problem::internal("for example"),
        Kind::Unavailable => Problem::unavailable("for example"),
        // What is missing depends on the operation.
        Kind::Unauthenticated => Problem::new(kind, meaning(kind)),
    }
}

const IF_MATCH: &str = "The version that the change is based on: the `ETag` of an earlier answer. The change is refused if it \
                        is no longer current.";
const KNOWN: &str = "The `ETag` of an earlier answer. If it is still current, the answer is 304.";
const UNCHANGED: &str = "The client has the current representation: `If-None-Match` names it.";
/// The tag of a file in the examples.
const FIRST_FILE: &str = "\"5f0c1e8a00026c10-gzip\"";
/// The version in the examples of answers, and so in those of `If-Match`.
const FIRST_VERSION: &str = "\"1\"";

fn subschema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Types that exist for their schema alone.
macro_rules! schema_only {
    ($($(#[$doc:meta])* $name:ident = $schema:tt;)*) => {$(
        $(#[$doc])*
        struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schema_only! {
    Limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT};
    // A cursor is opaque: clients know only that it is unpadded base64url.
    PageCursor = {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_-]+$"};
    // Bare, or a structured field's string, in which a backslash escapes a quote and a backslash.
    Key = {
        "type": "string",
        "pattern": "^([!#-~][!-~]{0,254}|\"([!#-\\[\\]-~]|\\\\[\"\\\\]){1,255}\")$",
    };
    // Any list of entity tags (RFC 9110, section 13.1.1), although only digits without `W/` can match a version.
    EntityTags = {"type": "string", "pattern": "^(\\*|(W/)?\"[!#-~]*\"(, (W/)?\"[!#-~]*\")*)$"};
    // A generated client can send an `enum` in a header; some do not send a `const` there.
    Asterisk = {"type": "string", "enum": ["*"]};
}
