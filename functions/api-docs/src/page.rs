//! The page, with the settings of this deployment.

use std::env;

use runtime::{Error, environment};

/// The page for people.
#[derive(Debug)]
pub struct Page {
    /// The HTML.
    pub html: String,
    /// Its Content-Security-Policy: what it may load, and where it may send requests.
    pub policy: String,
}

impl Page {
    /// The page of this deployment: people sign in at its user pool's address.
    pub fn connect() -> Result<Self, Error> {
        let client = environment::required("USER_POOL_CLIENT_ID")?;
        let address = environment::required("IDENTITY_URL")?;
        // In the emulator all AWS services have the same address.
        let address = env::var("AWS_ENDPOINT_URL").unwrap_or(address);
        Ok(Self::new(&client, &address))
    }

    fn new(client: &str, address: &str) -> Self {
        let html = include_str!("../page/page.html")
            .replace("{{client}}", &escaped(client))
            .replace("{{identity}}", &escaped(address))
            .replace("{{viewer}}", env!("SWAGGER_UI"));
        // Scripts and styles only from this origin, and none inline. Swagger UI's pictures are data URLs.
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' {address}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Self { html, policy }
    }
}

/// A text, escaped as an attribute's value.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_may_send_requests_only_to_this_api_and_the_user_pool() {
        let page = Page::new("abc", "https://cognito-idp.eu-west-1.amazonaws.com");
        assert!(page.html.contains(r#"data-client="abc""#));
        assert!(page.html.contains(r#"data-identity="https://cognito-idp.eu-west-1.amazonaws.com""#));
        assert!(page.policy.contains("connect-src 'self' https://cognito-idp.eu-west-1.amazonaws.com;"));
        assert!(!page.html.contains("{{"));
    }

    #[test]
    fn no_script_or_style_is_inline_or_from_another_origin() {
        let Page { html, policy } = Page::new("abc", "https://cognito-idp.eu-west-1.amazonaws.com");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
        assert!(!policy.contains("unsafe"));
        for script in html.split("<script").skip(1) {
            assert!(script.starts_with(" defer src=\"docs/"), "{script}");
        }
        assert!(!html.contains("<style") && !html.contains("style=") && !html.contains(" on"), "{html}");
        assert!(!html.contains("src=\"http") && !html.contains("href=\"http"), "{html}");
    }

    #[test]
    fn a_setting_cannot_end_an_attribute() {
        let page = Page::new("\"><script>", "https://a");
        assert!(page.html.contains("data-client=\"&quot;>&lt;script>\""), "{}", page.html);
    }
}
