//! The contract of the endpoints, for `infra/openapi.json`.

use kernel::{
    contract::{Header, Operation, json},
    operation,
};
use uuid::Uuid;

use crate::{
    endpoints::{self, NotificationPage},
    notification::Preferences,
};

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let id = "0190a6c6-5d2e-7a11-8b3c-1e8a4b105f0c";
    vec![
        operation!("notifications-list", "GET", "/notifications", endpoints::list)
            .named("listNotifications", "List the caller's notifications")
            .about("Newest first. Empty for a caller without a profile.")
            .signed_in()
            .query::<bool>("unread", "Only unread ones.", json!(true))
            .paginated()
            .answers::<NotificationPage>(
                200,
                "A page of notifications.",
                json!({
                    "items": [{
                        "id": id, "type": "comment", "subject": "New comment on your post, by \u{2068}Bada\u{2069}",
                        "message": "Your post has a new comment. \u{2068}Bada\u{2069} wrote: \u{2068}So do I.\u{2069}",
                        "read": false, "created_at": "2026-05-04T09:31:00.123456Z",
                    }],
                    "next_cursor": null,
                    "unread_count": 1,
                }),
            ),
        operation!("notifications-read", "POST", "/notifications/{id}/read", endpoints::read)
            .named("markNotificationRead", "Mark a notification as read")
            .about("One of the caller's own. A repeat changes nothing.")
            .with_profile()
            .path::<Uuid>("id", "The notification.", id)
            .answers_empty(204, "It is marked as read."),
        operation!("notifications-read", "POST", "/notifications/read-all", endpoints::read_all)
            .named("markAllNotificationsRead", "Mark all notifications as read")
            .about("All notifications up to now.")
            .with_profile()
            .answers_empty(204, "They are marked as read."),
        operation!("notifications-preferences", "GET", "/notifications/preferences", endpoints::preferences)
            .named("getNotificationPreferences", "Get the caller's notification preferences")
            .about("Version 0, without e-mail, if the caller has never set any.")
            .signed_in()
            .answers::<Preferences>(200, "The preferences.", json!({"email": false}))
            .with_headers(&[Header::ETag]),
        operation!(
            "notifications-preferences",
            "PUT",
            "/notifications/preferences",
            endpoints::set_preferences
        )
        .named("setNotificationPreferences", "Set the caller's notification preferences")
        .about("The first preferences replace version 0, or are created with `If-None-Match: *`.")
        .with_profile()
        .accepts_conditions()
        .takes::<Preferences>(json!({"email": true}))
        .answers::<Preferences>(200, "The changed preferences.", json!({"email": true}))
        .with_headers(&[Header::ETag])
        .answers::<Preferences>(201, "The first preferences.", json!({"email": true}))
        .with_headers(&[Header::ETag, Header::Location("preferences")]),
    ]
}
