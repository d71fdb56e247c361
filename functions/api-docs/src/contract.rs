//! The contract of the endpoints, for `infra/openapi.json`.

use kernel::{
    contract::{Header, Operation, json},
    operation,
};
use schemars::JsonSchema;

use crate::{
    endpoints,
    files::{self, FILES},
};

/// An OpenAPI 3.1 document.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Description {
    /// The version of the specification.
    #[schemars(regex(pattern = r"^3\.1\.\d+$"))]
    openapi: String,
}

/// An OpenAPI 3.0 document.
#[derive(JsonSchema)]
#[schemars(rename = "Description30")]
#[expect(dead_code, reason = "only its schema is used")]
struct OlderDescription {
    /// The version of the specification.
    #[schemars(regex(pattern = r"^3\.0\.\d+$"))]
    openapi: String,
}

/// The name of a file of the page.
#[derive(JsonSchema)]
#[schemars(inline, extend("enum" = FILES.iter().map(|file| file.name).collect::<Vec<_>>()))]
#[expect(dead_code, reason = "only its schema is used")]
struct FileName(String);

/// A file's content.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used")]
struct Text(String);

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let operation = operation!("api-docs", "GET", "/docs/{file}", endpoints::file)
        .named("getDocsFile", "Get a file of the documentation page")
        .about("Compressed if the client accepts `gzip`.")
        .path::<FileName>("file", "The file.", "swagger-ui.css");
    let media_types = FILES.iter().map(|file| file.media_type.split(';').next().unwrap_or_default());
    vec![
        operation!("api-docs", "GET", "/openapi.json", endpoints::description)
            .named("getDescription", "Get the API's description")
            .about("As OpenAPI 3.1. Compressed if the client accepts `gzip`.")
            .answers_as::<Description>(
                files::OPENAPI.media_type,
                200,
                "The description.",
                json!({"openapi": "3.1.1"}),
            )
            .with_headers(&[Header::FileETag]),
        operation!("api-docs", "GET", "/openapi-3.0.json", endpoints::older_description)
            .named("getOlderDescription", "Get the API's description in the older format")
            .about("The same description as OpenAPI 3.0, for tools that do not read 3.1. Compressed if the client accepts `gzip`.")
            .answers_as::<OlderDescription>(
                files::OPENAPI_3_0.media_type,
                200,
                "The description.",
                json!({"openapi": "3.0.3"}),
            )
            .with_headers(&[Header::FileETag]),
        operation!("api-docs", "GET", "/docs", endpoints::page)
            .named("getDocs", "Show the API's documentation")
            .about("A page to read about every call, sign in, and try it.")
            .answers_as::<Text>("text/html", 200, "The page.", json!(null)),
        media_types
            .fold(operation, |operation, media_type| {
                operation.answers_as::<Text>(media_type, 200, "The file.", json!(null))
            })
            .with_headers(&[Header::FileETag]),
    ]
}
