//! The pages in a real browser: `GET /docs`, and the local page of traces. A browser keeps the processors busy for seconds.

use system_tests::{
    System,
    shop::{CARD, shop},
    turns::{PROCESSORS, turn},
};

use super::{PASSWORD, javascript, node, run};

#[tokio::test]
async fn a_developer_can_sign_in_and_try_calls_on_the_docs_page_without_browser_errors() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let arguments = ["docs.mjs", system.output("api_url"), &ara.email, PASSWORD];
    let output = run(&node(), &arguments, &javascript("browser"));
    assert!(output.contains("three calls were tried"), "{output}");
    assert_eq!(ara.get("/users/me").await.body["name"], "Ara", "the page's call has not changed the profile");
}

#[tokio::test]
async fn a_developer_finds_an_orders_trace_on_the_page_of_traces_and_reads_it_by_the_keyboard() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let system = System::connect().await;
    let (buyer, sku) = shop(&system, 1).await;
    let order = buyer.orders(&sku, 1, CARD).await;
    assert_eq!(buyer.wait_until_decided(order).await.body["status"], "CONFIRMED");
    let arguments = ["traces.mjs", system.output("trace_url"), &order.to_string()];
    let said = run(&node(), &arguments, &javascript("browser"));
    assert!(said.contains("was found among the latest traces"), "{said}");
}
