//! Instances that can be registered, with names that can be part of a path.

use kernel::{
    address::{BaseUrl, FunctionArn},
    input::Fields,
    problem::Problem,
};
use runtime::aws::cloud_map::Instance;

/// Maximum length of an instance's name in Cloud Map.
pub(crate) const MAX_ID: usize = 64;
/// Maximum length of a service's name in an HTTP namespace.
pub(crate) const MAX_SERVICE: usize = 127;

/// The name of a service, from a path: 404 if no service can have it.
pub fn service(text: &str) -> Result<&str, Problem> {
    if is_name(text, MAX_SERVICE) { Ok(text) } else { Err(Problem::not_found("service")) }
}

/// The name of an instance, from a path: 422 if no instance can have it.
pub fn instance_id(text: &str) -> Result<&str, Problem> {
    if is_name(text, MAX_ID) {
        Ok(text)
    } else {
        let detail = "must be 1 to 64 lower-case letters, digits and hyphens, without a hyphen at either end";
        Err(Problem::invalid_field("/id", detail))
    }
}

fn is_name(text: &str, max: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= max
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Reads the body `{"url": …, "function_arn": …}`, of which one may be missing; 422 if both are.
pub fn instance(id: &str, mut fields: Fields) -> Result<Instance, Problem> {
    let addresses = (fields.optional::<BaseUrl>("url"), fields.optional::<FunctionArn>("function_arn"));
    let (url, function_arn) = fields.finish(addresses)?;
    if url.is_none() && function_arn.is_none() {
        let detail = "is required if there is no function_arn: an instance needs an address";
        return Err(Problem::invalid_field("/url", detail));
    }
    Ok(Instance {
        id: id.to_owned(),
        url: url.map(String::from),
        function_arn: function_arn.map(String::from),
    })
}

#[cfg(test)]
mod tests {
    use kernel::problem::Kind;

    use super::*;

    const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:users-lookup";

    fn read(body: &str) -> Result<Instance, Problem> {
        instance("laptop", Fields::read(body.as_bytes()).unwrap())
    }

    fn pointers(body: &str) -> Vec<String> {
        let problem = read(body).unwrap_err();
        assert_eq!(problem.kind, Kind::Invalid);
        problem.errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn an_instance_has_a_url_a_function_or_both() {
        let of = |url: Option<&str>, function: Option<&str>| Instance {
            id: "laptop".to_owned(),
            url: url.map(str::to_owned),
            function_arn: function.map(str::to_owned),
        };
        let url = "http://127.0.0.1:9000";
        assert_eq!(read(&format!(r#"{{"url": "{url}/"}}"#)).unwrap(), of(Some(url), None));
        assert_eq!(read(&format!(r#"{{"function_arn": "{ARN}"}}"#)).unwrap(), of(None, Some(ARN)));
        let both = format!(r#"{{"url": "{url}", "function_arn": "{ARN}"}}"#);
        assert_eq!(read(&both).unwrap(), of(Some(url), Some(ARN)));
    }

    #[test]
    fn an_instance_without_a_valid_address_is_refused() {
        assert_eq!(pointers("{}"), ["/url"]);
        assert_eq!(pointers(r#"{"url": "http://users.example"}"#), ["/url"]);
        assert_eq!(pointers(r#"{"url": 3, "function_arn": "users-lookup"}"#), ["/url", "/function_arn"]);
        assert_eq!(pointers(r#"{"url": "https://users.example", "weight": 1}"#), ["/weight"]);
    }

    #[test]
    fn a_name_can_be_part_of_a_path() {
        let longest = "a".repeat(MAX_ID);
        for name in ["a", "users", "users-2", "2", &longest] {
            assert_eq!(instance_id(name).unwrap(), name);
            assert_eq!(service(name).unwrap(), name);
        }
        let too_long = "a".repeat(MAX_ID + 1);
        for name in ["", "-users", "users-", "Users", "us ers", "us/ers", "üsers", "..", &too_long] {
            assert_eq!(instance_id(name).unwrap_err().kind, Kind::Invalid, "{name}");
        }
        assert_eq!(service("..").unwrap_err().kind, Kind::NotFound);
        assert_eq!(service(&"a".repeat(MAX_SERVICE + 1)).unwrap_err().kind, Kind::NotFound);
    }
}
