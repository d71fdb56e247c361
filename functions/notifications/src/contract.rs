//! What the endpoints promise, for `infra/openapi.json`.

use kernel::{
    contract::{Header, Operation, json},
    operation,
};
use uuid::Uuid;

use crate::{
    endpoints::{self, Listing},
    notification::Preferences,
};

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let id = "0190a6c6-5d2e-7a11-8b3c-1e8a4b105f0c";
    vec![
        operation!("notifications-list", "GET", "/notifications", endpoints::list)
            .named("listNotifications", "List one's notifications")
            .about("Newest first. Who has no profile has none.")
            .signed_in()
            .query::<bool>("unread", "Only those that are unread.", json!(true))
            .by_pages()
            .answers::<Listing>(
                200,
                "A page of notifications.",
                json!({
                    "items": [{
                        "id": id, "type": "comment", "subject": "Bada commented on your post",
                        "message": "So do I.", "read": false, "created_at": "2026-05-04T09:31:00.123456Z",
                    }],
                    "next_cursor": null,
                    "unread_count": 1,
                }),
            ),
        operation!("notifications-read", "POST", "/notifications/{id}/read", endpoints::read)
            .named("markNotificationRead", "Say that a notification is read")
            .with_profile()
            .path::<Uuid>("id", "The notification.", id)
            .answers_empty(204, "It counts as read."),
        operation!("notifications-read", "POST", "/notifications/read-all", endpoints::read_all)
            .named("markAllNotificationsRead", "Say that all notifications are read")
            .about("Those that have come so far.")
            .with_profile()
            .answers_empty(204, "They count as read."),
        operation!("notifications-preferences", "GET", "/notifications/preferences", endpoints::preferences)
            .named("getNotificationPreferences", "Read how one is notified")
            .about("Version 0, without mail, for who has never said.")
            .signed_in()
            .answers::<Preferences>(200, "The preferences.", json!({"email": false}))
            .with(&[Header::ETag]),
        operation!(
            "notifications-preferences",
            "PUT",
            "/notifications/preferences",
            endpoints::set_preferences
        )
        .named("setNotificationPreferences", "Say how one wants to be notified")
        .about("The first preferences replace version 0, or are made with `If-None-Match: *`.")
        .with_profile()
        .creates_or_changes()
        .takes::<Preferences>(json!({"email": true}))
        .answers::<Preferences>(200, "The changed preferences.", json!({"email": true}))
        .with(&[Header::ETag])
        .answers::<Preferences>(201, "The first preferences.", json!({"email": true}))
        .with(&[Header::ETag, Header::Location("/notifications/preferences")]),
    ]
}
