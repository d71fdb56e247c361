//! `GET /docs` in a real browser.

use system_tests::System;

use super::{PASSWORD, javascript, node, run};

#[tokio::test]
async fn a_developer_can_sign_in_and_try_calls_on_the_docs_page_without_browser_errors() {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let arguments = ["docs.mjs", system.output("api_url"), &ara.email, PASSWORD];
    let output = run(&node(), &arguments, &javascript("browser"));
    assert!(output.contains("three calls were tried"), "{output}");
    assert_eq!(ara.get("/users/me").await.body["name"], "Ara", "the page's call has not changed the profile");
}
