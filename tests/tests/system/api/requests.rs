//! Requests at the edges of HTTP: odd hosts, queries, encodings and routes. Each is answered as the API's description says.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use kernel::problem;
use reqwest::{Method, Url};
use serde_json::json;
use system_tests::{
    System,
    faults::{Changes, http_input, with_copy},
};
use uuid::Uuid;

const JSON: &str = "application/json";

/// The answer to a request that is sent byte by byte: its status and the rest.
fn raw(system: &System, head: &str, body: &[u8]) -> (u16, String) {
    let url: Url = system.output("api_url").parse().unwrap();
    let address = (url.host_str().unwrap(), url.port().unwrap());
    let mut connection = TcpStream::connect(address).unwrap();
    let head = head.replace("{api}", url.path());
    connection.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    connection.write_all(body).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{answer}")), answer)
}

#[tokio::test]
async fn quotes_in_the_query_are_a_parameter_like_any_other() {
    let system = System::connect().await;
    for query in ["q=\"x\"", "<q>=1", "q=%zz", "\"", "|^`{}"] {
        let head = format!("GET {{api}}/posts?{query} HTTP/1.1\r\nHost: 127.0.0.1:4566");
        let (status, answer) = raw(&system, &head, b"");
        assert_eq!(status, 422, "{query}: {answer}");
        assert!(answer.contains("is not a parameter of this request"), "{query}: {answer}");
    }
    let (status, answer) = raw(&system, "GET {api}/posts?limit=\"1\" HTTP/1.1\r\nHost: 127.0.0.1:4566", b"");
    assert_eq!(status, 422, "{answer}");
    assert!(answer.contains("/limit"), "{answer}");
}

#[tokio::test]
async fn odd_forwarding_headers_are_not_read() {
    let system = System::connect().await;
    for (name, value) in [
        ("x-forwarded-proto", "\"><"),
        ("x-forwarded-host", "a b"),
        ("x-forwarded-port", "x"),
        ("forwarded", "for=\"\\\""),
        ("x-forwarded-for", "[::"),
    ] {
        let answer = system.request(Method::GET, "/posts?limit=1").header(name, value).send().await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn an_unknown_or_repeated_parameter_is_named_by_every_endpoint() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_commentable_post("Spring").await;
    for path in [
        "/posts".to_owned(),
        format!("/posts/{post}"),
        format!("/posts/{post}/author"),
        format!("/posts/{post}/comments"),
        "/users/me".to_owned(),
        "/notifications".to_owned(),
        "/notifications/preferences".to_owned(),
        "/orders".to_owned(),
        "/inventory".to_owned(),
        "/docs".to_owned(),
    ] {
        ara.get(&format!("{path}?lim=5&x%2Fy=1")).await.is_invalid(&["/lim", "/x~1y"]);
        ara.get(&format!("{path}?lim=5&lim=5")).await.is_invalid(&["/lim", "/lim"]);
    }
    ara.get("/posts?limit=5&limit=x").await.is_invalid(&["/limit"]);
    ara.get("/posts?limit=5&limit=5&Limit=5").await.is_invalid(&["/limit", "/Limit"]);
    let draft = json!({"title": "Spring", "body": "It rains."});
    ara.post("/posts?dry_run=true", &draft).await.is_invalid(&["/dry_run"]);
    ara.delete(&format!("/posts/{post}?force=1")).await.is_invalid(&["/force"]);
    assert_eq!(system.get(&format!("/posts/{post}")).await.status, 200);
}

#[tokio::test]
async fn a_body_that_names_a_member_twice_is_unreadable() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    for body in [
        r#"{"title":5,"body":"b","title":"ok"}"#,
        r#"{"title":"ok","body":"b","title":"ok"}"#,
        r#"{"title":"ok","body":"b","t\u0069tle":"ok"}"#,
    ] {
        let answer = ara.request(Method::POST, "/posts").raw(JSON, body).send().await;
        answer.is_problem(400, "unreadable");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.starts_with("the body names the member \"title\" twice"), "{detail}");
    }
    let order = r#"{"items":[{"sku":"TEA","quantity":1,"quantity":1000}],"payment_method":"pm_card_visa"}"#;
    ara.request(Method::POST, "/orders").raw(JSON, order).send().await.is_problem(400, "unreadable");
    let mine = system.get(&format!("/posts?author={}", ara.id)).await;
    mine.is(200, &json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn a_body_that_is_not_utf_8_is_unreadable_whatever_its_framing_is() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let body = b"{\"title\":\"caf\xe9\",\"body\":\"b\"}";
    let whole = ara.request(Method::POST, "/posts").raw(JSON, &body[..]).send().await;
    whole.is_problem(400, "unreadable");
    let head = format!(
        "POST {{api}}/posts HTTP/1.1\r\nHost: 127.0.0.1:4566\r\nAuthorization: Bearer {}\r\nContent-Type: {JSON}\r\n\
         Transfer-Encoding: chunked",
        ara.token
    );
    let chunked = |body: &[u8]| [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
    let (status, answer) = raw(&system, &head, &chunked(body));
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = raw(&system, &head, &chunked("{\"title\":\"café\",\"body\":\"b\"}".as_bytes()));
    assert_eq!(status, 201, "{answer}");
    // The character that stands for such bytes can be meant.
    let meant = json!({"title": "caf\u{fffd}", "body": "b"});
    assert_eq!(ara.post("/posts", &meant).await.status, 201);
}

#[tokio::test]
async fn a_content_coding_is_identity_in_any_case_or_refused() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = |coding| {
        let request = ara.request(Method::POST, "/posts").header("content-encoding", coding);
        request.json(&json!({"title": "Spring", "body": "It rains."})).send()
    };
    for coding in ["identity", "Identity", "IDENTITY"] {
        assert_eq!(post(coding).await.status, 201, "{coding}");
    }
    for coding in ["gzip", "identity, gzip", "x-identity"] {
        post(coding).await.is_problem(415, "unsupported-media-type");
    }
}

#[tokio::test]
async fn of_forty_thousand_errors_a_hundred_are_listed_and_the_others_counted() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let members =
        |count: usize| (0..count).map(|index| format!("\"{index}\":0")).collect::<Vec<_>>().join(",");
    let many = format!("{{{}}}", members(40_000));
    let line = format!("{{{}}}", members(700));
    let lines = format!("{{\"items\":[{}],\"payment_method\":\"x\"}}", vec![line; 50].join(","));
    for (path, body) in [("/posts", many), ("/orders", lines)] {
        let answer = ara.request(Method::POST, path).raw(JSON, body).send().await;
        answer.is_problem(422, "invalid");
        assert_eq!(answer.body["errors"].as_array().unwrap().len(), 100);
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.ends_with(" more"), "{detail}");
        assert!(answer.body.to_string().len() < 20_000);
    }
}

#[tokio::test]
async fn a_401_of_a_function_says_how_to_authenticate() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let bearer = format!("Bearer {}", ara.id_token);
    let answer = system.request(Method::GET, "/users/me").header("authorization", &bearer).send().await;
    answer.is_problem(401, "unauthenticated");
    assert_eq!(answer.header("www-authenticate"), Some(problem::INVALID_TOKEN));

    let answer = system.request(Method::POST, "/payments/webhook").json(&json!({})).send().await;
    answer.is_problem(401, "unauthenticated");
    assert_eq!(answer.header("www-authenticate"), Some("Stripe-Signature"));
}

#[tokio::test]
async fn the_gateways_route_decides_whatever_path_the_api_is_mounted_at() {
    let system = System::connect().await;
    let ara = system.registered("Ara").await;
    let post = ara.writes_post("Spring").await;
    let read = system.get(&format!("/posts/{post}")).await;
    with_copy(&system, "posts-get", Changes::default(), async |copy| {
        for path in [
            format!("/posts/{post}"),
            format!("/v1/posts/{post}"),
            format!("/a/b/posts/{post}"),
            "/".to_owned(),
        ] {
            let mut event = http_input("posts-get", ara.id, &format!("/posts/{post}"), &json!({"id": post}));
            event["rawPath"] = json!(path);
            copy.invoke(&event).await.http().is(200, &read.body);
        }
    })
    .await;
    with_copy(&system, "posts-create", Changes::default(), async |copy| {
        let mut event = http_input("posts-create", ara.id, "/posts", &json!({}));
        // A slash at the end may be routed, too.
        for path in ["/posts", "/v1/posts", "/posts/", "/v1/posts/"] {
            event["rawPath"] = json!(path);
            event["headers"]["idempotency-key"] = json!(Uuid::now_v7());
            let answer = copy.invoke(&event).await.http();
            let mounted: Url = format!("https://madang.example{path}").parse().unwrap();
            let location = mounted.join(answer.header("location").unwrap()).unwrap();
            assert_eq!(location.path(), format!("{}/{}", path.trim_end_matches('/'), answer.id()));
        }
    })
    .await;
}
