//! `GET /docs` in a real browser.

use system_tests::System;

use super::{PASSWORD, javascript, node, run};

#[tokio::test]
async fn a_developer_signs_in_on_the_page_and_tries_calls_and_the_browser_has_nothing_to_complain_of() {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let arguments = ["docs.mjs", system.output("api_url"), &ara.email, PASSWORD];
    let said = run(&node(), &arguments, &javascript("browser"));
    assert!(said.contains("three calls were tried"), "{said}");
    assert_eq!(ara.get("/users/me").await.body["name"], "Ara", "the page's call was a real one");
}
