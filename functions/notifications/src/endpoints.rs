//! The HTTP endpoints.

use kernel::{clock::Timestamp, page::Page, precondition, problem::Problem};
use runtime::{
    serve::http::{Reply, Request},
    table::aggregate::until_written,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    notification::{Notification, Preferences},
    store::Notifications,
};

/// A notification as the API shows it.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "Notification"))]
pub(crate) struct NotificationView {
    /// The notification.
    id: Uuid,
    /// What it is about.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "contract", schemars(extend("enum" = events::NotificationCreated::KINDS)))]
    kind: &'static str,
    /// The subject, in one line.
    subject: String,
    /// The text.
    message: String,
    /// Whether it was marked as read.
    read: bool,
    /// When the event that it is about happened.
    created_at: Timestamp,
}

/// A page of notifications.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "PageOfNotification"))]
pub(crate) struct NotificationPage {
    #[serde(flatten)]
    page: Page<NotificationView>,
    /// The number of unread notifications, those on other pages included.
    unread_count: u64,
}

impl NotificationView {
    fn new(notification: &Notification, read_until: Option<Timestamp>) -> Self {
        let Notification { id, about, created_at, .. } = notification;
        Self {
            id: *id,
            kind: about.kind(),
            subject: about.subject(),
            message: about.message(),
            read: notification.is_read(read_until),
            created_at: *created_at,
        }
    }
}

/// `GET /notifications`, newest first; with `?unread=true` only unread ones. A caller without a profile has none.
pub async fn list(notifications: &Notifications, request: &Request) -> Result<Reply, Problem> {
    let caller = request.caller()?.id;
    let unread = unread_only(request.query("unread"))?;
    let list = format!("{} of {caller}", if unread { "unread" } else { "notifications" });
    let page = request.page(list)?;

    let read_until = notifications.settings(caller).await?.read_until;
    let found = async {
        if unread {
            notifications.list_unread(caller, read_until, &page).await
        } else {
            notifications.list(caller, &page).await
        }
    };
    let (found, unread_count) = tokio::try_join!(found, notifications.count_unread(caller, read_until))?;
    let shown = found.map(|notification| NotificationView::new(&notification, read_until));
    Reply::ok(&NotificationPage { page: shown.into_page(&page), unread_count })
}

/// Reads the query parameter `unread`: false if it is missing.
fn unread_only(parameter: Option<&str>) -> Result<bool, Problem> {
    parameter.map_or(Ok(false), |text| {
        text.parse().map_err(|_| Problem::invalid_field("/unread", "must be true or false"))
    })
}

/// `POST /notifications/{id}/read`. A repeat changes nothing.
pub async fn read(notifications: &Notifications, request: &Request) -> Result<Reply, Problem> {
    let (caller, id) = (request.caller()?.id, request.id("id")?);
    let notification = notifications.find_own(caller, id).await?;
    if notification.read_at.is_none() {
        notifications.mark_read(&notification, Timestamp::now()).await?;
    }
    Ok(Reply::no_content())
}

/// `POST /notifications/read-all`: marks all notifications so far as read.
pub async fn read_all(notifications: &Notifications, request: &Request) -> Result<Reply, Problem> {
    let caller = request.caller()?.id;
    notifications.own_settings(caller).await?;
    notifications.mark_all_read(caller, Timestamp::now()).await?;
    Ok(Reply::no_content())
}

/// `GET /notifications/preferences`: version 0, without mail, if the caller has never set any.
pub async fn preferences(notifications: &Notifications, request: &Request) -> Result<Reply, Problem> {
    let settings = notifications.settings(request.caller()?.id).await?;
    Ok(Reply::ok(&settings.preferences())?.etag(settings.version))
}

/// `PUT /notifications/preferences`. The first ones replace version 0, or are created with `If-None-Match: *`.
pub async fn set_preferences(notifications: &Notifications, request: &Request) -> Result<Reply, Problem> {
    let caller = request.caller()?.id;
    let preferences = Preferences::read(request.json()?)?;

    let creates = request.preconditions().creates_only()?;
    let saved = until_written(async || {
        let current = notifications.own_settings(caller).await?.version;
        if !creates {
            request.require_match(current)?;
        } else if current > 0 {
            return Err(precondition::exists());
        }
        Ok(notifications.save_preferences(caller, current, preferences).await?)
    });
    let version = saved.await?.ok_or_else(Problem::concurrent_change)?;
    let reply = if creates { Reply::created(&preferences, "preferences")? } else { Reply::ok(&preferences)? };
    Ok(reply.etag(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_is_true_or_false_and_nothing_else() {
        assert!(!unread_only(None).unwrap());
        assert!(!unread_only(Some("false")).unwrap());
        assert!(unread_only(Some("true")).unwrap());
        for bad in ["", "1", "True", "yes"] {
            assert_eq!(unread_only(Some(bad)).unwrap_err().errors[0].pointer, "/unread", "{bad}");
        }
    }
}
