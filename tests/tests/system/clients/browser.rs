//! `GET /docs` in a real browser.

use std::{env, path::Path};

use system_tests::System;

use super::{PASSWORD, javascript, run};

#[tokio::test]
async fn a_developer_signs_in_on_the_page_and_tries_calls_and_the_browser_has_nothing_to_complain_of() {
    let chromium = env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    assert!(
        Path::new(&chromium).exists(),
        "{chromium} is missing: install Chromium (on Debian: apt install chromium), or say in CHROMIUM where one is."
    );
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let said =
        run("node", &["docs.mjs", system.output("api_url"), &ara.email, PASSWORD], &javascript("browser"));
    assert!(said.contains("three calls were tried"), "{said}");
    assert_eq!(ara.get("/users/me").await.body["name"], "Ara", "the page's call was a real one");
}
