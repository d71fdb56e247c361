//! The text of a notification, its recipient, and when it counts as read.

use events::{CommentCreated, NotificationCreated, NotificationEvent, OrderEvent, UserNamed};
use kernel::{
    clock::Timestamp,
    event::CloudEvent,
    id,
    input::Fields,
    problem::Problem,
    text::{isolated, shortened},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Maximum characters of a name in a subject. Lists of mails show some 60 characters of a subject: the words around the name stay
/// in sight.
const MAX_NAME_IN_SUBJECT: usize = 40;

/// The subject of a notification. A new kind is a new variant, with its name and its texts.
///
/// Names are those of the time of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum About {
    /// The recipient has registered.
    Welcome {
        /// The recipient's name.
        name: String,
    },
    /// Someone commented on the recipient's post.
    Comment {
        /// The post.
        post_id: Uuid,
        /// Who wrote the comment.
        author_name: String,
        /// How the comment begins.
        excerpt: String,
    },
    /// The recipient's order was accepted.
    OrderPlaced {
        /// The order.
        order_id: Uuid,
    },
    /// The recipient's order will be delivered.
    OrderConfirmed {
        /// The order.
        order_id: Uuid,
    },
    /// The recipient's order will not be delivered.
    OrderRejected {
        /// The order.
        order_id: Uuid,
        /// Why, as the API's `reason`.
        reason: Option<String>,
    },
    /// The recipient has cancelled the order.
    OrderCancelled {
        /// The order.
        order_id: Uuid,
    },
    /// The order waits for an operator.
    OrderNeedsAttention {
        /// The order.
        order_id: Uuid,
    },
}

impl About {
    /// The welcome of a new user.
    pub fn registration(user: &UserNamed) -> Self {
        Self::Welcome { name: user.name.clone() }
    }

    /// The notification of a post's author about a comment, unless it is the author's own.
    pub fn comment(comment: &CommentCreated) -> Option<Self> {
        (comment.author_id != comment.post_author_id).then(|| Self::Comment {
            post_id: comment.post_id,
            author_name: comment.author_name.clone(),
            excerpt: comment.excerpt.clone(),
        })
    }

    /// The notification of a buyer about an order.
    pub fn order(event: &OrderEvent) -> Self {
        let order_id = event.summary().id;
        match event {
            OrderEvent::Placed(_) => Self::OrderPlaced { order_id },
            OrderEvent::Confirmed(_) => Self::OrderConfirmed { order_id },
            OrderEvent::Rejected(order) => Self::OrderRejected { order_id, reason: order.reason.clone() },
            OrderEvent::Cancelled(_) => Self::OrderCancelled { order_id },
            OrderEvent::NeedsAttention(_) => Self::OrderNeedsAttention { order_id },
        }
    }

    /// The kind's name, in the API and in events.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Welcome { .. } => "welcome",
            Self::Comment { .. } => "comment",
            Self::OrderPlaced { .. } => "order_placed",
            Self::OrderConfirmed { .. } => "order_confirmed",
            Self::OrderRejected { .. } => "order_rejected",
            Self::OrderCancelled { .. } => "order_cancelled",
            Self::OrderNeedsAttention { .. } => "order_needs_attention",
        }
    }

    /// The order that it is about, if it is about one.
    pub fn order_id(&self) -> Option<Uuid> {
        match self {
            Self::Welcome { .. } | Self::Comment { .. } => None,
            Self::OrderPlaced { order_id }
            | Self::OrderConfirmed { order_id }
            | Self::OrderRejected { order_id, .. }
            | Self::OrderCancelled { order_id }
            | Self::OrderNeedsAttention { order_id } => Some(*order_id),
        }
    }

    /// The text in one line: a mail's subject.
    ///
    /// Our words come first, so that no name passes for a subject of the system's, "Madang Security: your account" for one.
    pub fn subject(&self) -> String {
        let named = |name: &str| isolated(&shortened(name, MAX_NAME_IN_SUBJECT));
        match self {
            Self::Welcome { name } => format!("Welcome to Madang, {}", named(name)),
            Self::Comment { author_name, .. } => {
                format!("New comment on your post, by {}", named(author_name))
            }
            Self::OrderPlaced { .. } => "We have received your order".to_owned(),
            Self::OrderConfirmed { .. } => "Your order is confirmed".to_owned(),
            Self::OrderRejected { .. } => "Your order could not be completed".to_owned(),
            Self::OrderCancelled { .. } => "Your order is cancelled".to_owned(),
            Self::OrderNeedsAttention { .. } => "Your order is delayed".to_owned(),
        }
    }

    /// The text: a mail's body. Our words come first here too: lists of mails show how it begins.
    pub fn message(&self) -> String {
        match self {
            Self::Welcome { name } => {
                let name = isolated(name);
                format!("Hello {name}, good to have you here. Write a first post, or comment on someone's.")
            }
            Self::Comment { author_name, excerpt, .. } => {
                format!("Your post has a new comment. {} wrote: {}", isolated(author_name), isolated(excerpt))
            }
            Self::OrderPlaced { order_id } => {
                format!("We have received your order {order_id} and are processing it.")
            }
            Self::OrderConfirmed { order_id } => {
                format!("Your order {order_id} is confirmed and on its way.")
            }
            Self::OrderRejected { order_id, reason } => {
                let why = in_words(reason.as_deref().unwrap_or_default());
                format!("Your order {order_id} could not be completed: {why}. No money was taken.")
            }
            Self::OrderCancelled { order_id } => {
                format!("You have cancelled your order {order_id}. No money was taken.")
            }
            Self::OrderNeedsAttention { order_id } => {
                format!("Your order {order_id} is taking longer than it should. Someone is looking into it.")
            }
        }
    }
}

/// Why an order was rejected. A reason that is unknown here is newer than this code.
fn in_words(reason: &str) -> &'static str {
    match reason {
        "user_not_found" => "your profile no longer exists",
        "out_of_stock" => "an item is out of stock",
        "price_changed" => "a price has changed",
        "payment_declined" => "the payment was declined",
        "unknown_sku" => "an item does not exist",
        "mixed_currencies" => "its items are priced in different currencies",
        "total_too_large" => "its total is too large",
        _ => "something went wrong on our side",
    }
}

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The notification's id.
    pub id: Uuid,
    /// Its owner.
    pub user_id: Uuid,
    /// What it is about.
    #[serde(flatten)]
    pub about: About,
    /// When its event happened. It can arrive, and be stored, much later.
    pub created_at: Timestamp,
    /// Its place among the unread ones, if that is not `created_at`: its owner had marked everything up to a later time as read before
    /// it was stored. Then it comes right after that time, so that it counts as unread.
    pub unread_from: Option<Timestamp>,
    /// When its owner marked this one as read.
    pub read_at: Option<Timestamp>,
}

impl Notification {
    /// A notification for `user` about the event `cause`, for whom everything up to `read_until` is read. Its id is derived from the event
    /// and the user, so that an event that is delivered twenty times leads to one notification.
    pub fn new<P>(
        cause: &CloudEvent<P>,
        user: Uuid,
        about: About,
        read_until: Option<Timestamp>,
        now: Timestamp,
    ) -> (Self, CloudEvent<NotificationEvent>) {
        let id = Self::id_of(cause.id, user);
        let created_at = cause.time;
        let unread_from = read_until.filter(|read| created_at <= *read).map(Timestamp::next);
        let created = NotificationCreated { id, user_id: user, kind: about.kind().to_owned() };
        let event = CloudEvent::new(id, 1, now, NotificationEvent::Created(created));
        (Self { id, user_id: user, about, created_at, unread_from, read_at: None }, event)
    }

    /// The id of the notification of a user about an event.
    pub fn id_of(cause: Uuid, user: Uuid) -> Uuid {
        id::derived(&[cause.as_bytes(), user.as_bytes()])
    }

    /// Its place among the unread ones.
    pub fn unread_at(&self) -> Timestamp {
        self.unread_from.unwrap_or(self.created_at)
    }

    /// Whether it counts as read: its owner marked it, or everything up to `read_until`.
    pub fn is_read(&self, read_until: Option<Timestamp>) -> bool {
        self.read_at.is_some() || read_until.is_some_and(|read_until| self.unread_at() <= read_until)
    }
}

/// The body of `PUT /notifications/preferences`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Preferences {
    /// Whether notifications are also sent by e-mail.
    pub email: bool,
}

impl Preferences {
    /// Reads `{"email": …}`.
    pub fn read(mut fields: Fields) -> Result<Self, Problem> {
        let email = fields.required("email");
        Ok(Self { email: fields.finish(email)? })
    }
}

#[cfg(test)]
mod tests {
    use events::{OrderSummary, UserEvent};

    use super::*;

    const CAUSE: Uuid = Uuid::from_u128(1);
    const ARA: Uuid = Uuid::from_u128(7);
    const BADA: Uuid = Uuid::from_u128(8);

    fn comment_by(author: Uuid) -> CommentCreated {
        CommentCreated {
            id: Uuid::from_u128(3),
            post_id: Uuid::from_u128(2),
            post_author_id: ARA,
            author_id: author,
            author_name: "Bada".to_owned(),
            excerpt: "It rains here too.".to_owned(),
        }
    }

    /// An event of someone who registered at this time.
    fn given_a_registration(time: Timestamp) -> CloudEvent<UserEvent> {
        let created = UserEvent::Created(UserNamed { id: ARA, name: "Ara".to_owned() });
        CloudEvent { id: CAUSE, ..CloudEvent::new(ARA, 1, time, created) }
    }

    /// Their welcome, stored at this time.
    fn given_a_welcome(time: Timestamp, now: Timestamp) -> (Notification, CloudEvent<NotificationEvent>) {
        let about = About::registration(&UserNamed { id: ARA, name: "Ara".to_owned() });
        Notification::new(&given_a_registration(time), ARA, about, None, now)
    }

    #[test]
    fn a_new_user_is_welcomed_by_name_and_the_event_has_no_name() {
        let now = Timestamp::from_microsecond(5);
        let (welcome, event) = given_a_welcome(now, now);
        assert_eq!(welcome.about.subject(), "Welcome to Madang, \u{2068}Ara\u{2069}");
        assert_eq!(
            welcome.about.message(),
            "Hello \u{2068}Ara\u{2069}, good to have you here. Write a first post, or comment on someone's."
        );
        assert_eq!((welcome.user_id, welcome.created_at, welcome.read_at), (ARA, now, None));
        assert_eq!((event.subject, event.sequence, event.time), (welcome.id, 1, now));
        let created = NotificationCreated { id: welcome.id, user_id: ARA, kind: "welcome".to_owned() };
        assert_eq!(event.payload, NotificationEvent::Created(created));
    }

    #[test]
    fn a_posts_author_is_notified_of_who_commented_and_how_it_begins() {
        let about = About::comment(&comment_by(BADA)).unwrap();
        assert_eq!(about.kind(), "comment");
        assert_eq!(about.subject(), "New comment on your post, by \u{2068}Bada\u{2069}");
        assert_eq!(
            about.message(),
            "Your post has a new comment. \u{2068}Bada\u{2069} wrote: \u{2068}It rains here too.\u{2069}"
        );
    }

    fn comment_named(author_name: &str, excerpt: &str) -> About {
        let (author_name, excerpt) = (author_name.to_owned(), excerpt.to_owned());
        About::comment(&CommentCreated { author_name, excerpt, ..comment_by(BADA) }).unwrap()
    }

    #[test]
    fn a_name_does_not_turn_the_sentence_around_it_around() {
        let about = comment_named("\u{202e}adaB\u{2069}", "a\u{2066}b\n\u{202e}c");
        assert_eq!(about.subject(), "New comment on your post, by \u{2068}adaB\u{2069}");
        assert_eq!(
            about.message(),
            "Your post has a new comment. \u{2068}adaB\u{2069} wrote: \u{2068}ab c\u{2069}"
        );
        let welcome = About::registration(&UserNamed { id: ARA, name: "\u{202e}שלום".to_owned() });
        assert_eq!(welcome.subject(), "Welcome to Madang, \u{2068}שלום\u{2069}");
        assert!(welcome.message().starts_with("Hello \u{2068}שלום\u{2069}, good to have you here."));
    }

    #[test]
    fn no_subject_and_no_message_begins_with_a_name() {
        let name = "Madang Security: your account";
        let welcome = About::registration(&UserNamed { id: ARA, name: name.to_owned() });
        let comment = comment_named(name, name);
        assert_eq!(comment.subject(), format!("New comment on your post, by \u{2068}{name}\u{2069}"));
        for about in [welcome, comment] {
            for text in [about.subject(), about.message()] {
                assert!(text.starts_with(|first: char| first.is_ascii_uppercase()), "{text}");
                assert!(!text.starts_with("Madang"), "{text}");
            }
        }
    }

    #[test]
    fn a_long_name_is_cut_in_a_subject_between_characters_and_not_in_a_message() {
        let name = format!("{}👩‍👩‍👧‍👦{}", "a".repeat(35), "b".repeat(38));
        let about = comment_named(&name, "So do I.");
        let subject = format!("New comment on your post, by \u{2068}{}…\u{2069}", "a".repeat(35));
        assert_eq!(about.subject(), subject);
        assert!(about.message().contains(&name));
        // The mailer's encoding makes 400 bytes at most 998, which is the limit of a line of a mail.
        for name in ["👩".repeat(80), "e".to_owned() + &"\u{16d6b}".repeat(79)] {
            let subjects =
                [comment_named(&name, "So do I."), About::Welcome { name }].map(|about| about.subject());
            assert!(subjects.iter().all(|subject| subject.len() < 400), "{subjects:?}");
        }
    }

    #[test]
    fn a_comment_on_ones_own_post_notifies_no_one() {
        assert_eq!(About::comment(&comment_by(ARA)), None);
    }

    fn order(reason: Option<&str>) -> OrderSummary {
        let reason = reason.map(str::to_owned);
        OrderSummary { id: Uuid::from_u128(5), buyer_id: ARA, total: None, reason }
    }

    #[test]
    fn a_buyer_is_notified_why_an_order_was_rejected() {
        let about = About::order(&OrderEvent::Rejected(order(Some("payment_declined"))));
        assert_eq!(about.kind(), "order_rejected");
        assert_eq!(about.subject(), "Your order could not be completed");
        assert_eq!(
            about.message(),
            format!(
                "Your order {} could not be completed: the payment was declined. No money was taken.",
                order(None).id
            )
        );
    }

    #[test]
    fn the_same_event_leads_to_the_same_notification_and_another_to_another() {
        let about = About::comment(&comment_by(BADA)).unwrap();
        let registered = given_a_registration(Timestamp::now());
        let id = |cause, user| {
            let cause = CloudEvent { id: cause, ..registered.clone() };
            Notification::new(&cause, user, about.clone(), None, Timestamp::now()).0.id
        };
        assert_eq!(id(CAUSE, ARA), id(CAUSE, ARA));
        assert_ne!(id(CAUSE, ARA), id(Uuid::from_u128(2), ARA));
        assert_ne!(id(CAUSE, ARA), id(CAUSE, BADA));
    }

    #[test]
    fn a_notification_counts_as_read_if_it_was_marked_or_is_no_later_than_the_watermark() {
        let now = Timestamp::from_microsecond(5);
        let (notification, _) = given_a_welcome(now, now);
        assert!(!notification.is_read(None));
        assert!(!notification.is_read(Some(Timestamp::from_microsecond(4))));
        assert!(notification.is_read(Some(now)));
        assert!(notification.is_read(Some(now.plus_seconds(1))));
        assert!(Notification { read_at: Some(now), ..notification }.is_read(None));
    }

    #[test]
    fn a_late_notification_has_the_time_of_its_event_and_its_own_event_the_time_of_its_arrival() {
        let (happened, now) = (Timestamp::from_microsecond(5), Timestamp::from_microsecond(9));
        let (welcome, event) = given_a_welcome(happened, now);
        assert_eq!((welcome.created_at, welcome.unread_at(), event.time), (happened, happened, now));
    }

    #[test]
    fn what_arrives_after_its_owner_has_read_everything_is_unread_with_the_time_of_its_event() {
        let (happened, read) = (Timestamp::from_microsecond(5), Timestamp::from_microsecond(7));
        let about = About::registration(&UserNamed { id: ARA, name: "Ara".to_owned() });
        let late = |read_until| {
            Notification::new(&given_a_registration(happened), ARA, about.clone(), Some(read_until), read).0
        };
        for read_until in [happened, read] {
            let notification = late(read_until);
            assert_eq!(notification.created_at, happened);
            assert!(!notification.is_read(Some(read_until)));
            assert!(notification.is_read(Some(read_until.next())));
        }
        assert_eq!(late(Timestamp::from_microsecond(4)).unread_from, None);
    }

    #[test]
    fn the_stored_type_is_the_kinds_name() {
        for about in [
            About::registration(&UserNamed { id: ARA, name: "Ara".to_owned() }),
            About::comment(&comment_by(BADA)).unwrap(),
            About::order(&OrderEvent::Placed(order(None))),
            About::order(&OrderEvent::Confirmed(order(None))),
            About::order(&OrderEvent::Rejected(order(None))),
            About::order(&OrderEvent::Cancelled(order(None))),
            About::order(&OrderEvent::NeedsAttention(order(None))),
        ] {
            assert_eq!(serde_json::to_value(&about).unwrap()["type"], about.kind());
        }
    }

    #[test]
    fn preferences_have_the_field_email_and_no_other() {
        let read = |body: &str| Preferences::read(Fields::read(body.as_bytes()).unwrap());
        assert_eq!(read(r#"{"email": true}"#).unwrap(), Preferences { email: true });
        for bad in ["{}", r#"{"email": "yes"}"#, r#"{"email": null}"#, r#"{"email": true, "sms": true}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
