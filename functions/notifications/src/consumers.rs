//! The consumers of events.
//!
//! # Late events
//!
//! A notification has the time of its event, and its place in the list by that time, however late the event arrives.
//!
//! An event about an order that arrives after a later one about the same order (by its `sequence`) is told, but not as the latest
//! news: its place in the list is before the later one's, even if a clock was wrong, and it is not mailed. "We have received your
//! order" in the mail after "you have cancelled your order" would only confuse. A notification whose mail has to wait is not mailed any
//! more either if later news came meanwhile.
//!
//! # Mail is sent at least once
//!
//! SES takes no idempotency key, so a notification can be mailed twice, but only in these cases:
//!
//! - The function dies after SES accepted the mail and before `emailed_at` is written. The event is delivered again after its
//!   visibility time-out, the lease has expired, and the mail is sent once more.
//! - SES accepted the mail but its answer was lost or late. The SDK retries by itself, and the event is delivered again if the
//!   last attempt failed too.
//! - `emailed_at` could not be written, and the bus delivers the same event a second time after the lease has expired.
//!
//! Two concurrent deliveries cannot cause it: one of them holds the lease, the other is retried later and finds `emailed_at`.

use events::{CommentEvent, NotificationEvent, OrderEvent, UserEvent};
use kernel::{clock::Timestamp, event::CloudEvent};
use runtime::{
    aws::mail::Mailer,
    error::chain,
    serve::queue::{ConsumerError, Delivery, Outcome},
    table::{Written, copies::Copied},
    users::{UsersClient, user_copies},
};
use uuid::Uuid;

use crate::{
    notification::{About, Notification},
    store::{Mail, Notifications, Record, Settings},
};

/// Updates the copy of the user's name, welcomes a new user, deletes a deleted user's notifications and settings.
pub async fn on_user(
    notifications: &Notifications,
    delivery: &Delivery<UserEvent>,
) -> Result<Outcome, ConsumerError> {
    let event = &delivery.event;
    let copied = user_copies::apply(notifications.table(), event).await?;
    match &event.payload {
        // A user whose rename arrived first is still welcomed; a deleted user is not.
        UserEvent::Created(user) => notify(notifications, event, user.id, About::registration(user)).await,
        UserEvent::Updated(_) if copied == Copied::Outdated => Ok(Outcome::AlreadyApplied),
        UserEvent::Updated(_) => Ok(Outcome::Applied),
        // No event follows a deletion. Both are repeated in the cascade's second pass, for items that were written during the
        // first.
        UserEvent::Deleted(user) => {
            notifications.delete_settings(user.id).await?;
            let delete = async |notification| notifications.table().delete(notification).await;
            delivery.cascade(notifications.table(), &Notifications::of(user.id), delete).await
        }
    }
}

/// Notifies a post's author of a comment by someone else.
pub async fn on_comment(
    notifications: &Notifications,
    delivery: &Delivery<CommentEvent>,
) -> Result<Outcome, ConsumerError> {
    let event = &delivery.event;
    let CommentEvent::Created(comment) = &event.payload else { return Ok(Outcome::AlreadyApplied) };
    let Some(about) = About::comment(comment) else { return Ok(Outcome::AlreadyApplied) };
    notify(notifications, event, comment.post_author_id, about).await
}

/// Notifies a buyer of an order's progress.
pub async fn on_order(
    notifications: &Notifications,
    delivery: &Delivery<OrderEvent>,
) -> Result<Outcome, ConsumerError> {
    let event = &delivery.event;
    let buyer = event.payload.summary().buyer_id;
    let Some(settings) = notifications.recipient(buyer).await? else { return Ok(Outcome::AlreadyApplied) };
    let about = About::order(&event.payload);
    let time = notifications.record_news(event).await?;
    let told = CloudEvent { time, ..event.clone() };
    store(notifications, &told, buyer, about, &settings).await
}

/// Stores the notification of an event, unless that was done before or its recipient was deleted.
async fn notify<P>(
    notifications: &Notifications,
    cause: &CloudEvent<P>,
    user: Uuid,
    about: About,
) -> Result<Outcome, ConsumerError> {
    let Some(settings) = notifications.recipient(user).await? else { return Ok(Outcome::AlreadyApplied) };
    store(notifications, cause, user, about, &settings).await
}

/// Stores the notification of an event, in the same trace, unless that was done before.
async fn store<P>(
    notifications: &Notifications,
    cause: &CloudEvent<P>,
    user: Uuid,
    about: About,
    settings: &Settings,
) -> Result<Outcome, ConsumerError> {
    let (notification, event) = Notification::new(cause, user, about, settings.read_until, Timestamp::now());
    Ok(match notifications.create(&Record::new(notification), event).await? {
        Written::Done => Outcome::Applied,
        Written::ConditionFailed(_) => Outcome::AlreadyApplied,
    })
}

/// E-mails a notification to its recipient, if they asked for e-mail.
pub async fn email(
    (notifications, users, mailer): &(Notifications, UsersClient, Mailer),
    delivery: &Delivery<NotificationEvent>,
) -> Result<Outcome, ConsumerError> {
    let NotificationEvent::Created(created) = &delivery.event.payload;
    let Some(notification) = notifications.to_mail(created.user_id, created.id).await? else {
        return Ok(Outcome::AlreadyApplied);
    };
    if !notifications.is_latest_news(&notification).await? {
        return Ok(Outcome::AlreadyApplied);
    }
    // Before the lease is taken, so that no lease is held while the users service is down.
    let user = users.get(created.user_id, delivery.deadline).await;
    let Some(user) = user.map_err(ConsumerError::retryable)? else {
        return Ok(Outcome::AlreadyApplied);
    };
    let lease = match notifications.claim_mail(&notification, Timestamp::now()).await? {
        Mail::Granted { lease } => lease,
        Mail::Taken => return Err(ConsumerError::retryable("another delivery is mailing it")),
        Mail::NotNeeded => return Ok(Outcome::AlreadyApplied),
    };
    let about = &notification.about;
    if let Err(error) = mailer.send(&user.email, &about.subject(), &about.message()).await {
        // If this fails too, the next delivery waits until the lease has expired.
        if let Err(error) = notifications.release_mail(&notification, lease).await {
            let cause = chain(&error);
            tracing::warn!(notification_id = %created.id, cause, "the lease stays until it expires");
        }
        return Err(ConsumerError::Retryable(error));
    }
    // The mail was sent. Failing here would lead to a retry, which would send it again.
    if let Err(error) = notifications.mark_mailed(&notification, Timestamp::now()).await {
        let cause = chain(&error);
        tracing::error!(notification_id = %created.id, cause, "mailed, but not recorded as such");
    }
    Ok(Outcome::Applied)
}
