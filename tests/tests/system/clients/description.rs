//! `GET /openapi.json`, `GET /openapi-3.0.json`, and the files of the documentation page.

use reqwest::Method;
use serde_json::Value;
use system_tests::{Answer, System, files};

async fn ask(system: &System, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = system.request(Method::GET, path);
    headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send().await
}

#[tokio::test]
async fn the_served_descriptions_are_the_committed_ones() {
    let system = System::connect().await;
    for path in ["/openapi.json", "/openapi-3.0.json"] {
        let answer = system.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("application/json")));
        let committed = files::json(&format!("infra{path}"));
        assert!(answer.body == committed, "the deployed {path} is out of date: run `make up`");
        assert_eq!(answer.header("content-encoding"), None, "{path} is compressed, which nobody asked for");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn the_description_is_compressed_for_clients_that_accept_gzip() {
    let system = System::connect().await;
    let answer = ask(&system, "/openapi.json", &[("accept-encoding", "br, gzip")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(answer.header("vary"), Some("accept-encoding"));
    let length: usize = answer.header("content-length").unwrap().parse().unwrap();
    assert!(length < 30_000, "{length} bytes");
    let refused = ask(&system, "/openapi.json", &[("accept-encoding", "gzip;q=0")]).await;
    assert_eq!((refused.status.as_u16(), refused.header("content-encoding")), (200, None));
    assert_ne!(refused.header("etag"), answer.header("etag"), "two representations have the same tag");
}

#[tokio::test]
async fn a_file_that_the_client_already_has_is_not_sent_again() {
    let system = System::connect().await;
    for path in ["/openapi.json", "/openapi-3.0.json", "/docs/swagger-ui-bundle.js", "/docs/page.css"] {
        for coding in ["identity", "gzip"] {
            let first = ask(&system, path, &[("accept-encoding", coding)]).await;
            let tag = first.header("etag").expect("a tag").to_owned();
            for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
                let again =
                    ask(&system, path, &[("accept-encoding", coding), ("if-none-match", &known)]).await;
                assert_eq!((again.status.as_u16(), &again.body), (304, &Value::Null), "{path}: {known}");
                assert_eq!(again.header("etag"), Some(tag.as_str()), "{path}");
            }
            let other = [("accept-encoding", coding), ("if-none-match", "\"other\"")];
            assert_eq!(ask(&system, path, &other).await.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn the_docs_page_may_load_only_its_own_files() {
    let system = System::connect().await;
    let answer = system.get("/docs").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    let html = answer.body.as_str().unwrap();
    for reference in html.split("src=\"").chain(html.split("href=\"")).skip(1) {
        let (path, _) = reference.split_once('"').unwrap();
        if path.starts_with("docs/") {
            assert_eq!(system.get(&format!("/{path}")).await.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn an_unknown_file_is_not_found() {
    let system = System::connect().await;
    for path in ["/docs/other.js", "/docs/LICENSE.txt", "/docs/%00"] {
        system.get(path).await.is_problem(404, "not-found");
    }
}
