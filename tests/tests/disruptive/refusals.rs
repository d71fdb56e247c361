//! A consumer whose table throttles it: the event waits in the queue.

use serde_json::{Value, json};
use system_tests::{
    System, eventually,
    faults::{Call, Proxy, Refusal, dead_letters, with_endpoint},
    turns::turn,
};

#[tokio::test]
async fn an_event_waits_in_its_queue_while_the_consumers_table_throttles() {
    let _turn = turn(&["notifications-on-comment"], &[]).await;
    let system = System::connect().await;
    let (author, reader) = tokio::join!(system.registered("Ara"), system.registered("Bada"));
    author.wait_for_welcome().await;
    let post = author.writes_commentable_post("Spring").await;

    let proxy = Proxy::start(&system).await;
    let partition = json!(format!("user#{}", author.id));
    let notifies =
        move |call: &Call| call.operation == "PutItem" && call.input["Item"]["pk"]["S"] == partition;
    proxy.refuse({
        let notifies = notifies.clone();
        move |call| notifies(call).then(Refusal::throttled)
    });
    with_endpoint(&system, "notifications-on-comment", "DYNAMODB", &proxy, async || {
        let comment = reader.comments_on(post, "So do I.").await;
        // The SDK's client makes three attempts per delivery.
        eventually("the event is delivered a second time", async || {
            let attempts = proxy.calls().iter().filter(|call| notifies(call)).count();
            (attempts > 3).then_some(())
        })
        .await;
        assert!(system.depth("notifications-on-comment").await > 0);
        assert_eq!(author.notifications("comment").await, Vec::<Value>::new());

        proxy.allow_all();
        let notifications = eventually("the notification arrives", async || {
            Some(author.notifications("comment").await).filter(|notifications| !notifications.is_empty())
        })
        .await;
        assert_eq!(notifications.len(), 1, "{notifications:?}");
        let comment = comment.to_string();
        let letters = dead_letters(&system, "notifications-on-comment").await;
        assert!(!letters.iter().any(|body| body.contains(&comment)), "{letters:?}");
    })
    .await;
}
