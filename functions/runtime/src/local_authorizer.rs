//! Verifies access tokens where no authorizer stands in front: under `cargo lambda watch`.
//!
//! On AWS and on the local cloud the API's authorizer has verified the token before a function runs.
//! `cargo lambda watch` has no authorizer; this takes its place, so that a request without a valid token
//! is refused there as well. It exists in debug builds only and answers nothing unless `make watch` has
//! set `LOCAL_JWKS`, `JWT_ISSUER` and `JWT_AUDIENCE`.

use std::env;

use http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Map, Value};

/// The claims of the request's bearer token, when it is valid.
pub(crate) fn verify(headers: &HeaderMap) -> Option<Map<String, Value>> {
    let keys: JwkSet = serde_json::from_str(&env::var("LOCAL_JWKS").ok()?).ok()?;
    let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    let key = keys.find(&decode_header(token).ok()?.kid?)?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&[env::var("JWT_ISSUER").ok()?]);
    // A Cognito access token names the client in `client_id` and has no `aud`.
    validation.validate_aud = false;
    let claims =
        decode::<Map<String, Value>>(token, &DecodingKey::from_jwk(key).ok()?, &validation).ok()?.claims;
    let client = claims.get("client_id").and_then(Value::as_str);
    (client == env::var("JWT_AUDIENCE").ok().as_deref()).then_some(claims)
}
