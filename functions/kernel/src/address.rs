//! Where a service can be reached: a base URL, the ARN of a Lambda function.

use std::{fmt, str::FromStr};

use http::Uri;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::input::{FromField, Invalid};

/// The maximum length of an attribute's value in Cloud Map.
const MAX_LENGTH: usize = 1024;

/// A base URL, to which a service's paths are appended: `https://api.example/v1`.
///
/// Only `https`, because requests carry a signature and answers carry personal data; `http` only to this machine, where
/// a copy of a service may run. It has no user, no query, no fragment, and no slash at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseUrl(String);

/// The ARN of a Lambda function, with or without a version or alias at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionArn(String);

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

impl BaseUrl {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BaseUrl {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.len() > MAX_LENGTH {
            return Err(Malformed("must have at most 1,024 characters"));
        }
        // Not the crate `url`, which repairs what is malformed, such as a line break in a host. `Uri` is what the HTTP client takes;
        // it drops a fragment silently.
        let uri: Uri = match text.parse() {
            Ok(uri) if !text.contains('#') => uri,
            _ => return Err(Malformed("must be a URL such as https://api.example, without a fragment")),
        };
        let host = uri.host().unwrap_or_default();
        let here = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if here => {}
            _ => return Err(Malformed("must begin with https://, or with http:// for this machine alone")),
        }
        if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(Malformed("must name a host, and no user"));
        }
        let port = &uri.authority().map(http::uri::Authority::as_str).unwrap_or_default()[host.len()..];
        if !port.is_empty() && uri.port_u16().is_none_or(|port| port == 0) {
            return Err(Malformed("must have a port from 1 to 65535, or none"));
        }
        if uri.query().is_some() {
            return Err(Malformed("must not have a query"));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl FunctionArn {
    /// The ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FunctionArn {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let parts: Vec<&str> = text.split(':').collect();
        let named = |name: &str| {
            !name.is_empty()
                && name.len() <= 64
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_$".contains(&byte))
        };
        let fits = match parts.as_slice() {
            ["arn", partition, "lambda", region, account, "function", name, rest @ ..] => {
                partition.starts_with("aws")
                    && named(partition)
                    && named(region)
                    && account.len() == 12
                    && account.bytes().all(|byte| byte.is_ascii_digit())
                    && named(name)
                    && matches!(rest, [] | [_])
                    && rest.iter().all(|qualifier| named(qualifier))
            }
            _ => false,
        };
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(Malformed("must be a function's ARN: arn:aws:lambda:<region>:<account>:function:<name>"))
        }
    }
}

macro_rules! text {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Malformed;

            fn try_from(text: String) -> Result<Self, Malformed> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }

        impl FromField for $type {
            fn from_field(value: serde_json::Value) -> Result<Self, Invalid> {
                String::from_field(value)?.parse().map_err(|error: Malformed| Invalid::new(error.0))
            }
        }
    };
}

text!(BaseUrl);
text!(FunctionArn);

/// The JSON Schema of addresses: what a pattern can express of the checks above.
#[cfg(feature = "contract")]
mod contract {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{BaseUrl, FunctionArn, MAX_LENGTH};

    impl JsonSchema for BaseUrl {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "BaseUrl".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "type": "string",
                "format": "uri",
                "maxLength": MAX_LENGTH,
                "pattern": "^(https://|http://(127\\.0\\.0\\.1|localhost|\\[::1\\])(:[0-9]+)?(/|$))[^?#@]*$",
            })
        }
    }

    impl JsonSchema for FunctionArn {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "FunctionArn".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            let named = "[A-Za-z0-9_$-]";
            json_schema!({
                "type": "string",
                "pattern": format!(
                    "^arn:aws{named}{{0,61}}:lambda:{named}{{1,64}}:[0-9]{{12}}:function:{named}{{1,64}}(:{named}{{1,64}})?$"
                ),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_https_or_on_this_machine_and_loses_its_last_slash() {
        for (text, expected) in [
            ("https://api.example", "https://api.example"),
            ("https://api.example/", "https://api.example"),
            ("https://api.example:8443/v1/", "https://api.example:8443/v1"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("http://localhost", "http://localhost"),
            ("http://[::1]:9000/x", "http://[::1]:9000/x"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().map(String::from).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused() {
        let long = format!("https://api.example/{}", "a".repeat(MAX_LENGTH));
        for text in [
            "",
            "/users",
            "api.example",
            "users",
            "ht!tp://api.example",
            "ftp://api.example",
            "http://api.example",
            "http://10.0.0.1",
            "http://127.0.0.1.example",
            "https://",
            "https://:443",
            "https://api.example:0",
            "https://api.example:70000",
            "https://api.example:x",
            "https://user:secret@api.example",
            "http://127.0.0.1@api.example",
            "https://api.example?x=1",
            "https://api.example#x",
            "https://api example",
            "https://api.example/\n",
            &long,
        ] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_function_is_named_by_its_arn() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:users-lookup";
        for text in [arn.to_owned(), format!("{arn}:$LATEST"), format!("{arn}:live")] {
            assert_eq!(text.parse::<FunctionArn>().map(String::from), Ok(text));
        }
        for text in [
            "users-lookup",
            "arn:aws:sqs:us-east-1:123456789012:users",
            "arn:aws:lambda:us-east-1:1:function:users-lookup",
            "arn:aws:lambda:us-east-1:123456789012:function:",
            "arn:aws:lambda:us-east-1:123456789012:function:a b",
            &format!("{arn}:live:more"),
            &format!("{arn}:"),
        ] {
            assert!(text.parse::<FunctionArn>().is_err(), "{text}");
        }
    }
}
