//! Notifications in the table, one item each in their owner's partition, beside the owner's settings and
//! the copy of the owner's name.
//!
//! | sort key | item |
//! |---|---|
//! | `user` | the copy of the owner's profile ([`user_copies`]) |
//! | `settings` | [`Settings`]: the time up to which everything is read, and the preferences |
//! | `notification#<id>` | a [`Record`] |
//! | `order#<id>` | the [`LatestNews`] about an order |
//!
//! The index `by_time` has all of the owner's notifications by the time of their events, the index `unread` those that were not marked
//! one by one. Marking
//! all as read moves the watermark `read_until` and writes no notification: it is one write, however many there are, and those
//! up to the watermark do not count as unread.

use std::slice;

use events::{NotificationEvent, OrderEvent};
use kernel::{
    clock::Timestamp,
    event::CloudEvent,
    page::PageRequest,
    problem::{Kind, Problem},
};
use runtime::{
    Error,
    table::{
        self, Condition, Found, Key, List, Table, Written,
        aggregate::{Stored, TOMBSTONE_LIFE},
        copies::Copied,
    },
    users::user_copies::{self, UserCopy},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use uuid::Uuid;

use crate::notification::{Notification, Preferences};

/// How long a notification is kept, in seconds: 90 days. DynamoDB removes it then, read or not.
pub const NOTIFICATION_LIFE: i64 = 90 * 24 * 60 * 60;
/// How long the lease for mailing a notification lasts, in seconds. Longer than the time-out of the function that holds it
/// (15 s), and short: a delivery that meets it is retried after two seconds, four, eight, and so on.
const MAIL_LEASE: i64 = 20;

/// A notification as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The notification.
    #[serde(flatten)]
    pub notification: Notification,
    /// When it was mailed.
    pub emailed_at: Option<Timestamp>,
    /// The end of the lease for mailing it, in seconds since 1970.
    email_lease_until: Option<i64>,
    /// The sort key of the index `by_time`.
    created: String,
    /// The sort key of the index `unread`, until the notification is marked as read. The same, unless it arrived late.
    unread: Option<String>,
    /// When DynamoDB may remove the item, in seconds since 1970 (time to live).
    expires_at: i64,
}

impl Record {
    /// A new notification.
    pub fn new(notification: Notification) -> Self {
        let at = |time: Timestamp| format!("{time}#{}", notification.id);
        Self {
            emailed_at: None,
            email_lease_until: None,
            created: at(notification.created_at),
            unread: Some(at(notification.unread_at())),
            expires_at: notification.created_at.as_second() + NOTIFICATION_LIFE,
            notification,
        }
    }
}

/// The latest news that a buyer was told about an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestNews {
    /// The notification that told it.
    notification_id: Uuid,
    /// The version of the order that its event is from.
    sequence: u64,
    /// When its event happened, which is its place in the list.
    told_at: Timestamp,
    /// When DynamoDB may remove the item, in seconds since 1970 (time to live). Older events are not applied any more by then.
    expires_at: i64,
}

impl LatestNews {
    /// The news in an event about an order.
    pub fn of(event: &CloudEvent<OrderEvent>) -> Self {
        Self {
            notification_id: Notification::id_of(event.id, event.payload.summary().buyer_id),
            sequence: event.sequence,
            told_at: event.time,
            expires_at: event.time.as_second() + TOMBSTONE_LIFE,
        }
    }
}

/// A user's settings, empty at first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Notifications of events no later than this count as read, unless they arrived after it was set.
    pub read_until: Option<Timestamp>,
    /// Whether notifications are mailed.
    pub email: bool,
    /// The preferences' version: 0 as long as there are none.
    pub version: u64,
}

impl Settings {
    /// The preferences.
    pub fn preferences(&self) -> Preferences {
        Preferences { email: self.email }
    }
}

/// Whether a delivery may mail a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// It may, and no other until `lease`.
    Granted {
        /// The end of the lease, in seconds since 1970.
        lease: i64,
    },
    /// Another delivery holds the lease.
    Taken,
    /// It was mailed or deleted.
    NotNeeded,
}

/// The notifications.
#[derive(Clone, Debug)]
pub struct Notifications {
    table: Table,
}

fn partition(user: Uuid) -> String {
    format!("user#{user}")
}

fn key(user: Uuid, notification: Uuid) -> Key {
    Key::new(partition(user), format!("notification#{notification}"))
}

fn news_key(buyer: Uuid, order: Uuid) -> Key {
    Key::new(partition(buyer), format!("order#{order}"))
}

fn settings_key(user: Uuid) -> Key {
    Key::new(partition(user), "settings")
}

fn unread_of(user: Uuid) -> List {
    List { index: "unread", sort: "unread", ..Notifications::of(user) }
}

impl Notifications {
    /// Connects to the table.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self { table: Table::connect().await? })
    }

    /// The table, for the copy of the users and for a cascade.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The settings of the recipient of a notification; `None` if the recipient was deleted.
    pub async fn recipient(&self, user: Uuid) -> Result<Option<Settings>, table::Error> {
        let (deleted, settings) = tokio::try_join!(self.is_deleted(user), self.settings(user))?;
        Ok((!deleted).then_some(settings))
    }

    /// Records the latest news about an order, unless there is later news already. Returns the place of the event in the list: its
    /// time, but before that of later news.
    pub async fn record_news(&self, event: &CloudEvent<OrderEvent>) -> Result<Timestamp, table::Error> {
        let order = event.payload.summary();
        let key = news_key(order.buyer_id, order.id);
        let later: Option<LatestNews> =
            match self.table.put_copy(key.clone(), &LatestNews::of(event), event.sequence).await? {
                Copied::Latest => None,
                Copied::Outdated => self.table.get(key).await?,
            };
        Ok(later.map_or(event.time, |later| event.time.min(later.told_at.previous())))
    }

    /// Whether there is no later news than a notification tells about what it is about.
    pub async fn is_latest_news(&self, notification: &Notification) -> Result<bool, table::Error> {
        let Some(order) = notification.about.order_id() else { return Ok(true) };
        let key = news_key(notification.user_id, order);
        let latest: Option<LatestNews> = self.table.batch_get(slice::from_ref(&key)).await?.take(&key)?;
        Ok(latest.is_none_or(|latest| latest.notification_id == notification.id))
    }

    /// Whether the copy of a user says that the user was deleted.
    async fn is_deleted(&self, user: Uuid) -> Result<bool, table::Error> {
        let copy: Option<UserCopy> = self.table.get(user_copies::key(user)).await?;
        Ok(user_copies::refuse_deleted(copy.as_ref()).is_err())
    }

    /// A user's settings.
    pub async fn settings(&self, user: Uuid) -> Result<Settings, table::Error> {
        Ok(self.table.get(settings_key(user)).await?.unwrap_or_default())
    }

    /// The list of a user's notifications, newest first.
    pub fn of(user: Uuid) -> List {
        List { index: "by_time", partition: ("pk", partition(user)), sort: "created", newest_first: true }
    }

    /// A page of a user's notifications, newest first.
    pub async fn list(&self, user: Uuid, page: &PageRequest) -> Result<Found<Notification>, table::Error> {
        self.table.page(&Self::of(user), page.after(), page.limit()).await
    }

    /// A page of those that are unread, newest first.
    pub async fn list_unread(
        &self,
        user: Uuid,
        read_until: Option<Timestamp>,
        page: &PageRequest,
    ) -> Result<Found<Notification>, table::Error> {
        // One more than the page, to know whether the next one would begin below the watermark.
        let found = self.table.page(&unread_of(user), page.after(), page.limit() + 1).await?;
        Ok(unread_page(found, read_until, page.limit()))
    }

    /// How many are unread.
    pub async fn count_unread(&self, user: Uuid, read_until: Option<Timestamp>) -> Result<u64, table::Error> {
        let after = read_until.map(last_key_of);
        self.table.count(&List { newest_first: false, ..unread_of(user) }, after.as_deref()).await
    }

    /// Stores a new notification.
    pub async fn create(
        &self,
        record: &Record,
        event: CloudEvent<NotificationEvent>,
    ) -> Result<Written<Stored<Record>>, table::Error> {
        let Notification { id, user_id, .. } = record.notification;
        self.table.create(key(user_id, id), record, event).await
    }

    /// A notification of a registered caller; 404 if it is not theirs.
    pub async fn find_own(&self, caller: Uuid, id: Uuid) -> Result<Notification, Problem> {
        let record: Option<Record> = self.of_registered(caller, key(caller, id)).await?;
        Ok(record.ok_or_else(|| Problem::not_found("notification"))?.notification)
    }

    /// The settings of a registered caller.
    pub async fn own_settings(&self, caller: Uuid) -> Result<Settings, Problem> {
        Ok(self.of_registered(caller, settings_key(caller)).await?.unwrap_or_default())
    }

    /// An item, for a change by the caller; 403 if the caller's profile does not exist or was deleted.
    ///
    /// For a second or so after `POST /users`, until `user.created` arrives here, it does not exist yet.
    async fn of_registered<T>(&self, caller: Uuid, item: Key) -> Result<Option<T>, Problem>
    where
        T: serde::de::DeserializeOwned,
    {
        let user = user_copies::key(caller);
        let mut items = self.table.batch_get(&[user.clone(), item.clone()]).await?;
        let copy: UserCopy = items.take(&user)?.ok_or_else(|| {
            let detail = "you have no profile yet, or registered a moment ago: register with POST /users {\"name\": …}, \
                          or try again in a second";
            Problem::new(Kind::ProfileRequired, detail)
        })?;
        user_copies::refuse_deleted(Some(&copy))?;
        Ok(items.take(&item)?)
    }

    /// Marks a notification as read; 404 if it was deleted meanwhile.
    pub async fn mark_read(&self, notification: &Notification, now: Timestamp) -> Result<(), Problem> {
        #[derive(Serialize)]
        struct Read {
            read_at: Timestamp,
        }
        let Notification { id, user_id, .. } = *notification;
        let exists = Condition::present();
        let read = Read { read_at: now };
        let written = self.table.set::<IgnoredAny>(key(user_id, id), &read, &["unread"], exists).await?;
        written.done_or(|| Problem::not_found("notification"))
    }

    /// Marks everything up to `now` as read. The watermark never moves back.
    pub async fn mark_all_read(&self, user: Uuid, now: Timestamp) -> Result<(), table::Error> {
        #[derive(Serialize)]
        struct AllRead {
            read_until: Timestamp,
        }
        let later = Condition::new("attribute_not_exists(#read_until) OR #read_until < :now")
            .value("now", now.to_string().as_str());
        let all_read = AllRead { read_until: now };
        self.table.set::<IgnoredAny>(settings_key(user), &all_read, &[], later).await?;
        Ok(())
    }

    /// Replaces version `version_read` of the preferences, and returns the new version; `None` if it is no longer the current one.
    pub async fn save_preferences(
        &self,
        user: Uuid,
        version_read: u64,
        preferences: Preferences,
    ) -> Result<Option<u64>, table::Error> {
        #[derive(Serialize)]
        struct Replaced {
            #[serde(flatten)]
            preferences: Preferences,
            version: u64,
        }
        // The item can exist without preferences, because of its watermark.
        let unchanged = match version_read {
            0 => Condition::new("attribute_not_exists(#version)"),
            version => Condition::version(version),
        };
        let replaced = Replaced { preferences, version: version_read + 1 };
        let written = self.table.set::<IgnoredAny>(settings_key(user), &replaced, &[], unchanged).await?;
        Ok(written.then_some(replaced.version))
    }

    /// Deletes a user's settings.
    pub async fn delete_settings(&self, user: Uuid) -> Result<(), table::Error> {
        self.table.delete(settings_key(user)).await
    }

    /// The notification, if its owner wants mail and it was not mailed yet.
    pub async fn to_mail(&self, user: Uuid, id: Uuid) -> Result<Option<Notification>, table::Error> {
        let (settings, record) = (settings_key(user), key(user, id));
        let mut items = self.table.batch_get(&[settings.clone(), record.clone()]).await?;
        let settings: Settings = items.take(&settings)?.unwrap_or_default();
        let record: Option<Record> = items.take(&record)?;
        let unsent = record.filter(|record| settings.email && record.emailed_at.is_none());
        Ok(unsent.map(|record| record.notification))
    }

    /// Takes the lease for mailing a notification.
    pub async fn claim_mail(
        &self,
        notification: &Notification,
        now: Timestamp,
    ) -> Result<Mail, table::Error> {
        let free = Condition::new(
            "attribute_exists(#pk) AND attribute_not_exists(#emailed_at) \
             AND (attribute_not_exists(#email_lease_until) OR #email_lease_until < :now)",
        )
        .value("now", now.as_second());
        let lease = now.as_second() + MAIL_LEASE;
        let claim = Lease { email_lease_until: lease };
        let Notification { id, user_id, .. } = *notification;
        Ok(match self.table.set::<Record>(key(user_id, id), &claim, &[], free).await? {
            Written::Done => Mail::Granted { lease },
            Written::ConditionFailed(Some(record)) if record.emailed_at.is_none() => Mail::Taken,
            Written::ConditionFailed(_) => Mail::NotNeeded,
        })
    }

    /// Returns the lease, so that another delivery can take it at once.
    pub async fn release_mail(&self, notification: &Notification, lease: i64) -> Result<(), table::Error> {
        let own = Condition::new("#email_lease_until = :own").value("own", lease);
        let released = Lease { email_lease_until: 0 };
        let Notification { id, user_id, .. } = *notification;
        self.table.set::<IgnoredAny>(key(user_id, id), &released, &[], own).await?;
        Ok(())
    }

    /// Records that a notification was mailed, unless it was deleted meanwhile.
    pub async fn mark_mailed(&self, notification: &Notification, now: Timestamp) -> Result<(), table::Error> {
        #[derive(Serialize)]
        struct Mailed {
            emailed_at: Timestamp,
        }
        let exists = Condition::present();
        let mailed = Mailed { emailed_at: now };
        let Notification { id, user_id, .. } = *notification;
        self.table.set::<IgnoredAny>(key(user_id, id), &mailed, &["email_lease_until"], exists).await?;
        Ok(())
    }
}

#[derive(Serialize)]
struct Lease {
    email_lease_until: i64,
}

/// A sort key after all notifications of `time`, because no id has a character as large as `~`.
fn last_key_of(time: Timestamp) -> String {
    format!("{time}#~")
}

/// A page of at most `limit` notifications, newest first, that ends at the watermark.
fn unread_page(found: Found<Notification>, read_until: Option<Timestamp>, limit: u32) -> Found<Notification> {
    found.take_while(|notification| !notification.is_read(read_until)).limit(limit as usize)
}

#[cfg(test)]
mod tests {
    use events::{OrderSummary, UserEvent, UserNamed};

    use super::*;
    use crate::notification::About;

    const ARA: Uuid = Uuid::from_u128(7);

    /// A notification of an event at this time, which was stored when everything up to `read_until` was read.
    fn given_late(microsecond: i64, read_until: Option<i64>) -> Record {
        let named = UserNamed { id: ARA, name: "Ara".to_owned() };
        let (about, now) = (About::registration(&named), Timestamp::from_microsecond(microsecond));
        let cause = CloudEvent::new(ARA, 1, now, UserEvent::Created(named));
        let read_until = read_until.map(Timestamp::from_microsecond);
        Record::new(Notification::new(&cause, ARA, about, read_until, now).0)
    }

    fn given(microsecond: i64) -> Record {
        given_late(microsecond, None)
    }

    /// The times of a page of two, from what three reads found, and whether there is more behind it.
    fn page(found: &[i64], more: bool, read_until: Option<i64>) -> (usize, bool) {
        let found = found.iter().copied().map(given);
        let found = found.map(|record| (record.created, record.notification)).collect();
        let page = unread_page(Found::new(found, more), read_until.map(Timestamp::from_microsecond), 2);
        (page.items().len(), page.end().is_some())
    }

    #[test]
    fn a_page_of_unread_ones_ends_at_the_watermark_and_never_leads_to_an_empty_one() {
        assert_eq!(page(&[9, 8, 7], true, None), (2, true));
        assert_eq!(page(&[9, 8, 7], false, None), (2, true));
        assert_eq!(page(&[9, 8, 7], true, Some(7)), (2, false));
        assert_eq!(page(&[9, 8, 7], true, Some(8)), (1, false));
        assert_eq!(page(&[9, 8, 7], true, Some(9)), (0, false));
        assert_eq!(page(&[9, 8], false, None), (2, false));
        assert_eq!(page(&[], false, Some(9)), (0, false));
    }

    #[test]
    fn the_watermark_is_behind_every_key_of_its_time_and_before_those_of_the_next() {
        let watermark = last_key_of(Timestamp::from_microsecond(5));
        assert!(given(5).created < watermark);
        assert!(watermark < given(6).created);
    }

    #[test]
    fn a_late_notification_is_listed_by_its_event_and_unread_right_behind_the_watermark() {
        let watermark = last_key_of(Timestamp::from_microsecond(5));
        for late in [3, 5] {
            let record = given_late(late, Some(5));
            assert_eq!(
                record.created.split('#').next(),
                Some(&*Timestamp::from_microsecond(late).to_string())
            );
            let unread = record.unread.unwrap();
            assert!(watermark < unread && unread < last_key_of(Timestamp::from_microsecond(6)));
        }
        let later = given_late(6, Some(5));
        assert_eq!(later.unread, Some(later.created));
    }

    #[test]
    fn the_latest_news_about_an_order_is_kept_until_older_events_are_refused() {
        let order = OrderSummary { id: Uuid::from_u128(5), buyer_id: ARA, total: None, reason: None };
        let time = Timestamp::from_microsecond(0);
        let event = CloudEvent::new(order.id, 2, time, OrderEvent::Cancelled(order));
        let news = LatestNews::of(&event);
        assert_eq!((news.sequence, news.expires_at), (2, TOMBSTONE_LIFE));
        let about = About::order(&event.payload);
        assert_eq!(news.notification_id, Notification::new(&event, ARA, about, None, time).0.id);
    }

    #[test]
    fn a_new_notification_is_unread_and_is_kept_for_ninety_days() {
        let record = given(0);
        assert_eq!(record.unread.as_ref(), Some(&record.created));
        assert_eq!(record.expires_at, 90 * 86_400);
    }

    #[test]
    fn what_is_stored_reads_back_the_same() {
        let record = given(5);
        let stored = serde_json::to_value(Stored::Live(&record)).unwrap();
        assert_eq!(serde_json::from_value::<Stored<Record>>(stored.clone()).unwrap(), Stored::Live(record));
        assert_eq!((&stored["type"], &stored["state"]), (&"welcome".into(), &"live".into()));
    }

    #[test]
    fn settings_without_preferences_are_version_zero_and_want_no_mail() {
        let settings: Settings = serde_json::from_str(r#"{"read_until": "2023-11-14T22:13:20Z"}"#).unwrap();
        assert_eq!((settings.version, settings.preferences()), (0, Preferences { email: false }));
        assert!(settings.read_until.is_some());
    }
}
