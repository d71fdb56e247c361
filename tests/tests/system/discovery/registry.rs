//! The registry's endpoints.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::System;
use uuid::Uuid;

use super::USERS;

/// The id of an instance that no other test uses, and its path.
fn new_instance(service: &str) -> (String, String) {
    let id = format!("test-{}", Uuid::now_v7().simple());
    let path = format!("/registry/{service}/instances/{id}");
    (id, path)
}

async fn instance(system: &System, service: &str, id: &str) -> Option<Value> {
    let answer = system.get_signed(&format!("/registry/{service}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["service"], service);
    answer.body["instances"].as_array().unwrap().iter().find(|instance| instance["id"] == id).cloned()
}

#[tokio::test]
async fn every_service_is_registered_at_its_deployed_address() {
    let _alone = USERS.lock().await;
    let system = System::connect().await;
    let url = system.output("api_url");
    let lookup = "arn:aws:lambda:us-east-1:000000000000:function:users-lookup";
    for service in ["users", "posts", "comments", "notifications", "orders", "inventory", "payments"] {
        let expected = match service {
            "users" => json!({"id": "deployed", "url": url, "function_arn": lookup}),
            _ => json!({"id": "deployed", "url": url}),
        };
        assert_eq!(instance(&system, service, "deployed").await, Some(expected), "{service}");
    }
}

#[tokio::test]
async fn an_instance_can_be_registered_changed_and_deregistered_at_run_time() {
    let system = System::connect().await;
    let (id, path) = new_instance("comments");
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:comments-lookup";
    for body in [
        json!({"url": "https://one.example", "function_arn": arn}),
        json!({"url": "https://one.example", "function_arn": arn}),
        json!({"url": "https://two.example:8443/v1"}),
        json!({"function_arn": arn}),
    ] {
        let mut expected = body.clone();
        expected["id"] = json!(id);
        let registered = system.send_signed("PUT", &path, Some(&body)).await;
        registered.is(200, &expected);
        assert_eq!(instance(&system, "comments", &id).await, Some(expected));
    }
    for _ in 0..2 {
        let gone = system.send_signed("DELETE", &path, None).await;
        gone.is(204, &Value::Null);
        assert_eq!(instance(&system, "comments", &id).await, None);
    }
    assert!(instance(&system, "comments", "deployed").await.is_some(), "the deployed instance is gone");
}

#[tokio::test]
async fn an_unknown_service_is_not_found() {
    let system = System::connect().await;
    let body = json!({"url": "https://one.example"});
    for service in ["nobody", "Users", "us%20ers"] {
        let path = format!("/registry/{service}/instances/laptop");
        system.send_signed("PUT", &path, Some(&body)).await.is_problem(404, "not-found");
        system.send_signed("DELETE", &path, None).await.is_problem(404, "not-found");
        system.get_signed(&format!("/registry/{service}")).await.is_problem(404, "not-found");
    }
}

#[tokio::test]
async fn an_instance_that_cannot_be_called_is_not_registered() {
    let system = System::connect().await;
    let (id, path) = new_instance("comments");
    for (body, pointers) in [
        (json!({}), vec!["/url"]),
        (json!({"url": "users"}), vec!["/url"]),
        (json!({"url": "http://users.example"}), vec!["/url"]),
        (json!({"url": "https://ara:secret@users.example"}), vec!["/url"]),
        (json!({"url": "https://users.example?x=1"}), vec!["/url"]),
        (json!({"url": "ftp://users.example"}), vec!["/url"]),
        (json!({"url": null, "function_arn": "users-lookup"}), vec!["/url", "/function_arn"]),
        (json!({"url": "https://users.example", "weight": 3}), vec!["/weight"]),
    ] {
        system.send_signed("PUT", &path, Some(&body)).await.is_invalid(&pointers);
    }
    let send = async |media_type: &str, body: &str| {
        system.send_signed_raw("PUT", &path, media_type, body.to_owned()).await
    };
    send("application/json", "{").await.is_problem(400, "unreadable");
    send("text/plain", r#"{"url": "https://users.example"}"#).await.is_problem(415, "unsupported-media-type");
    assert_eq!(instance(&system, "comments", &id).await, None);

    let body = json!({"url": "https://users.example"});
    for id in ["Laptop", "-laptop", "lap_top", "lap%20top", &"a".repeat(65)] {
        let path = format!("/registry/comments/instances/{id}");
        system.send_signed("PUT", &path, Some(&body)).await.is_invalid(&["/id"]);
        system.send_signed("DELETE", &path, None).await.is_invalid(&["/id"]);
    }
}

#[tokio::test]
async fn the_registry_requires_a_signature_and_accepts_no_token() {
    let system = System::connect().await;
    let admin = system.admin().await;
    let (id, path) = new_instance("comments");
    let body = json!({"url": "https://one.example"});
    for (method, path) in
        [(Method::PUT, path.as_str()), (Method::DELETE, &path), (Method::GET, "/registry/comments")]
    {
        for request in [system.request(method.clone(), path), admin.request(method.clone(), path)] {
            let answer = request.json(&body).send().await;
            assert!([401, 403].contains(&answer.status.as_u16()), "{method}: {answer:?}");
            assert!(answer.body.get("instances").is_none(), "{answer:?}");
        }
    }
    assert_eq!(instance(&system, "comments", &id).await, None);
}
