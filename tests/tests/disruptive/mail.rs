//! The sender of mails while users, the service that knows the addresses, is down.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{with_variables, with_visibility_timeout},
    turns::turn,
};

#[tokio::test]
async fn a_mail_waits_in_its_queue_while_users_is_down_and_is_sent_once_it_is_up() {
    let _turn = turn(&["notifications-email"], &[]).await;
    let system = System::connect().await;
    let (ara, bada) = (system.registered("Ara").await, system.registered("Bada").await);
    ara.wait_for_welcome().await;
    let preferences = ara.request(Method::PUT, "/notifications/preferences").if_match(0);
    preferences.json(&json!({"email": true})).send().await.is(200, &json!({"email": true}));
    let post = ara.writes_commentable_post("Spring").await;

    let down = [("DISCOVERY", "static"), ("USERS_URL", "http://127.0.0.1:1")];
    let down = HashMap::from(down.map(|(name, value)| (name.to_owned(), value.to_owned())));
    with_visibility_timeout(&system, "notifications-email", 2, async || {
        let subject = with_variables(&system, &["notifications-email"], &down, async || {
            bada.comments_on(post, "So do I.").await;
            let notification =
                eventually("the notification arrives", async || ara.notifications("comment").await.pop())
                    .await;
            let id = notification["id"].as_str().unwrap().to_owned();
            eventually("the sender has failed to reach users", async || {
                let lines =
                    system.log_lines("notifications-email", "the service users is not available").await;
                lines.iter().any(|line| line.to_string().contains("127.0.0.1:1")).then_some(())
            })
            .await;
            assert!(system.depth("notifications-email").await > 0, "no mail for {id} waits");
            notification["subject"].as_str().unwrap().to_owned()
        })
        .await;
        assert_eq!(system.mails(&ara.email, &subject).await, Vec::<Value>::new());
        eventually("the mail is sent", async || system.mails(&ara.email, &subject).await.pop()).await;
    })
    .await;
}
