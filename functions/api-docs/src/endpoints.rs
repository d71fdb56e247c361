//! The HTTP endpoints.

#![allow(clippy::unused_async, reason = "handlers are async, whether they wait or not")]

use http::{HeaderValue, header};
use kernel::problem::Problem;
use runtime::serve::http::{Reply, Request};

use crate::{
    files::{File, OPENAPI, OPENAPI_3_0},
    page::Page,
};

/// `GET /openapi.json`: the API's description.
pub async fn description(_: &Page, request: &Request) -> Result<Reply, Problem> {
    answer(&OPENAPI, request)
}

/// `GET /openapi-3.0.json`: the same description, for tools that do not read OpenAPI 3.1.
pub async fn older_description(_: &Page, request: &Request) -> Result<Reply, Problem> {
    answer(&OPENAPI_3_0, request)
}

/// `GET /docs`: the page.
pub async fn page(page: &Page, _: &Request) -> Result<Reply, Problem> {
    let policy = HeaderValue::from_str(&page.policy).map_err(Problem::internal)?;
    Ok(Reply::content("text/html; charset=utf-8", page.html.as_bytes())
        .header(header::CONTENT_SECURITY_POLICY, policy)
        .header(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
        .header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")))
}

/// `GET /docs/{file}`: the page's files.
pub async fn file(_: &Page, request: &Request) -> Result<Reply, Problem> {
    let file = File::named(request.parameter("file")).ok_or_else(|| Problem::not_found("file"))?;
    answer(file, request)
}

/// Answers a file in an encoding that the client accepts.
fn answer(file: &File, request: &Request) -> Result<Reply, Problem> {
    let accepted = request.headers().get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let compressed = takes_gzip(accepted.unwrap_or_default());
    // A compressed file is another representation, with another tag (RFC 9110, section 8.8.3.3).
    let tag = format!("\"{}{}\"", file.version(), if compressed { "-gzip" } else { "" });
    let reply = if compressed {
        Reply::content(file.media_type, file.gzip)
            .header(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))
    } else {
        Reply::content(file.media_type, file.plain()?)
    };
    Ok(reply
        .header(header::ETAG, HeaderValue::from_str(&tag).map_err(Problem::internal)?)
        .header(header::VARY, HeaderValue::from_static("accept-encoding"))
        // Cached, but validated each time, so that a new deployment is seen at once.
        .header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")))
}

/// Whether `Accept-Encoding` allows gzip (RFC 9110, section 12.5.3).
fn takes_gzip(accepted: &str) -> bool {
    let mut any = false;
    for coding in accepted.split(',') {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| {
            let (name, weight) = part.split_once('=')?;
            name.eq_ignore_ascii_case("q").then(|| weight.parse().unwrap_or(0.0))
        });
        let allowed = weight.is_none_or(|weight: f32| weight > 0.0);
        match name {
            name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
                return allowed;
            }
            "*" => any = allowed,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_goes_to_clients_that_accept_it() {
        for accepted in ["gzip", "gzip, deflate, br", "br;q=1.0, GZIP;q=0.8", "*", "*;q=0, gzip"] {
            assert!(takes_gzip(accepted), "{accepted}");
        }
        for refused in [
            "",
            "br",
            "identity",
            "gzip;q=0",
            "gzip; Q=0",
            "gzip;a=b;q=0",
            "gzip;q=",
            "gzip;q=0.0, *",
            "*;q=0",
        ] {
            assert!(!takes_gzip(refused), "{refused}");
        }
    }
}
