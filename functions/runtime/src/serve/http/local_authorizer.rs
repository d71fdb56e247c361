//! Verifies access tokens under `cargo lambda watch`, which has no authorizer.
//!
//! On AWS and on the local cloud the API's authorizer verifies the token before a function runs. This module replaces it,
//! so that a request without a valid token is refused here too. A signature (`SigV4`) is required but not verified, because
//! only the emulator knows the keys; no other machine can reach the port. All this exists in debug builds only, and does
//! nothing unless `make watch` has set `LOCAL_JWKS`, `JWT_ISSUER` and `JWT_AUDIENCE`.

use std::env;

use http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Map, Value};

/// Whether the request has a signature, if `make watch` runs the function.
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    env::var_os("LOCAL_JWKS").is_some()
        && authorization.is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 Credential="))
}

/// The claims of the request's bearer token, if it is valid.
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
