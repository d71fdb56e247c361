//! Comments in the table, one item each in their post's partition, beside copies of posts and users.

use events::{CommentEvent, PostEvent};
use kernel::{
    clock::Timestamp, event::CloudEvent, idempotency::CreationRequest, page::PageRequest, problem::Problem,
};
use runtime::{
    Error,
    table::{
        self, Found, Key, List, Table, Written,
        aggregate::{Stored, TOMBSTONE_LIFE},
        copies::Copied,
        creation::{Creatable, Creation, WithRequest},
        limits::{self, Allowance, Counted, HourlyLimit},
    },
    users::user_copies::{self, UserCopy},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::comment::{Body, Comment};

/// A comment as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The comment.
    #[serde(flatten)]
    pub comment: Comment,
    /// The version of the author's profile from which the name was copied.
    author_sequence: u64,
    /// The partition of the index `by_author`.
    author_id: Uuid,
    /// The sort key of the index `by_author`, in which a tombstone stays.
    created: String,
    /// The sort key of the index `by_time`, in which it does not.
    position: String,
}

impl Record {
    /// A new comment, with the name from version `author_sequence` of the author's profile.
    fn new(comment: Comment, author_sequence: u64) -> Self {
        let position = format!("{}#{}", comment.created_at, comment.id);
        Self { author_sequence, author_id: comment.author.id, created: position.clone(), position, comment }
    }
}

impl Creatable for Record {
    fn created_at(&self) -> Timestamp {
        self.comment.created_at
    }

    fn counted(&self) -> Option<Counted> {
        Some(Counted::by(self.author_id, &self.created))
    }
}

/// This service's copy of a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostCopy {
    /// The post.
    pub id: Uuid,
    /// Who wrote it.
    pub author_id: Uuid,
    /// Whether it has been deleted.
    pub deleted: bool,
    /// The version of the post that was copied.
    pub sequence: u64,
    /// When DynamoDB may remove the copy of a deleted post (time to live).
    pub expires_at: Option<i64>,
}

impl PostCopy {
    /// The copy that an event results in.
    pub fn of(event: &CloudEvent<PostEvent>) -> Self {
        let (author_id, deleted) = match &event.payload {
            PostEvent::Created(post) | PostEvent::Updated(post) => (post.author_id, false),
            PostEvent::Deleted(post) => (post.author_id, true),
        };
        let expires_at = deleted.then(|| event.time.as_second() + TOMBSTONE_LIFE);
        Self { id: event.subject, author_id, deleted, sequence: event.sequence, expires_at }
    }
}

/// The comments.
#[derive(Clone, Debug)]
pub struct Comments {
    table: Table,
}

fn partition(post: Uuid) -> String {
    format!("post#{post}")
}

fn key(post: Uuid, comment: Uuid) -> Key {
    Key::new(partition(post), format!("comment#{comment}"))
}

fn post_key(post: Uuid) -> Key {
    Key::new(partition(post), "post")
}

impl Comments {
    /// Connects to the table.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self { table: Table::connect().await? })
    }

    /// The table, for the consumers' cascades.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The copies of a post and of a user; 404 if the post is unknown or deleted.
    pub async fn post_and_user(
        &self,
        post: Uuid,
        user: Uuid,
    ) -> Result<(PostCopy, Option<UserCopy>), Problem> {
        let (post, user) = (post_key(post), user_copies::key(user));
        let mut items = self.table.batch_get(&[post.clone(), user.clone()]).await?;
        let user = items.take(&user)?;
        Ok((existing(items.take(&post)?)?, user))
    }

    /// 404 if the post is unknown or deleted.
    pub async fn require_post(&self, post: Uuid) -> Result<(), Problem> {
        existing(self.table.get(post_key(post)).await?).map(drop)
    }

    /// The comment; 404 if there is none, or its post is unknown or deleted.
    pub async fn get(&self, post: Uuid, comment: Uuid) -> Result<Comment, Problem> {
        let (comment, post) = (key(post, comment), post_key(post));
        let mut items = self.table.batch_get(&[comment.clone(), post.clone()]).await?;
        existing(items.take(&post)?)?;
        let stored: Option<Stored<Comment>> = items.take(&comment)?;
        stored.and_then(Stored::live).ok_or_else(|| Problem::not_found("comment"))
    }

    /// The comment, for a change by the caller, and the author of its post; 404 if there is none.
    pub async fn find(
        &self,
        post: Uuid,
        comment: Uuid,
        caller: Uuid,
    ) -> Result<(WithRequest<Record>, Option<Uuid>), Problem> {
        let (comment, post, user) = (key(post, comment), post_key(post), user_copies::key(caller));
        let mut items = self.table.batch_get(&[comment.clone(), post.clone(), user.clone()]).await?;
        user_copies::refuse_deleted(items.take(&user)?.as_ref())?;
        let stored: Option<Stored<WithRequest<Record>>> = items.take(&comment)?;
        let record = stored.and_then(Stored::live).ok_or_else(|| Problem::not_found("comment"))?;
        let post: Option<PostCopy> = items.take(&post)?;
        Ok((record, post.map(|post| post.author_id)))
    }

    /// A page of a post's comments, oldest first.
    pub async fn list(&self, post: Uuid, page: &PageRequest) -> Result<Found<Comment>, table::Error> {
        self.table.page(&Self::of_post(post), page.after(), page.limit()).await
    }

    /// What the author may still write, deleted comments included.
    pub async fn allowance(&self, author: Uuid, limit: HourlyLimit) -> Result<Allowance, table::Error> {
        self.table.allowance(&limits::with_deleted(Self::of_author(author)), limit).await
    }

    /// 429 if nothing is left, unless the request is a repeat.
    pub async fn require_allowance(
        &self,
        allowance: Allowance,
        post: Uuid,
        request: &CreationRequest,
    ) -> Result<(), Problem> {
        self.table.require_allowance(allowance, key(post, request.id())).await
    }

    /// Stores a new comment, with the name from version `author_sequence` of the author's profile.
    pub async fn create(
        &self,
        request: &CreationRequest,
        comment: Comment,
        author_sequence: u64,
        event: CloudEvent<CommentEvent>,
    ) -> Result<Creation<Comment>, table::Error> {
        let key = key(comment.post_id, comment.id);
        let record = Record::new(comment, author_sequence);
        let creation = self.table.create_once(key, request, record, event).await?;
        Ok(creation.map(|record| record.comment))
    }

    /// Writes an edit of version `version_read`, if that is still the current version.
    pub async fn save(
        &self,
        version_read: u64,
        comment: &Comment,
        event: CloudEvent<CommentEvent>,
    ) -> Result<Written<()>, table::Error> {
        #[derive(Serialize)]
        struct Edited<'a> {
            body: &'a Body,
            updated_at: Timestamp,
            version: u64,
        }
        let Comment { id, post_id, body, updated_at, version, .. } = comment;
        let edited = Edited { body, updated_at: *updated_at, version: *version };
        self.table.save(key(*post_id, *id), version_read, &edited, event).await
    }

    /// Deletes a comment, if its version is still the one that was read.
    pub async fn delete(
        &self,
        record: &WithRequest<Record>,
        event: CloudEvent<CommentEvent>,
    ) -> Result<Written<()>, table::Error> {
        let Comment { id, post_id, version, .. } = record.aggregate.comment;
        self.table.bury(key(post_id, id), version, Some(record.origin()), event).await
    }

    /// The list of a post's comments, oldest first.
    pub fn of_post(post: Uuid) -> List {
        let partition = ("pk", partition(post));
        List { index: "by_time", partition, sort: "position", newest_first: false }
    }

    /// The list of an author's comments, oldest first.
    pub fn of_author(author: Uuid) -> List {
        let partition = ("author_id", author.to_string());
        List { index: "by_author", partition, sort: "created", newest_first: false }
    }

    /// Updates the copy of a post from an event, unless the copy is from a later event.
    pub async fn apply_post(&self, event: &CloudEvent<PostEvent>) -> Result<Copied, table::Error> {
        self.table.put_copy(post_key(event.subject), &PostCopy::of(event), event.sequence).await
    }

    /// Deletes a comment because its author or its post was deleted.
    pub async fn delete_with(
        &self,
        comment: Key,
        delete: impl Fn(&Comment) -> CloudEvent<CommentEvent>,
    ) -> Result<(), table::Error> {
        let bury = |record: WithRequest<Record>| {
            let comment = &record.aggregate.comment;
            (comment.version, Some(record.origin()), delete(comment))
        };
        self.table.bury_latest(comment, bury).await
    }
}

fn existing(post: Option<PostCopy>) -> Result<PostCopy, Problem> {
    post.filter(|post| !post.deleted).ok_or_else(|| Problem::not_found("post"))
}

#[cfg(test)]
mod tests {
    use events::{PostDeleted, PostTitled};

    use super::*;

    #[test]
    fn a_deleted_post_is_kept_as_deleted_until_no_event_about_it_can_arrive() {
        let (id, author_id) = (Uuid::from_u128(1), Uuid::from_u128(7));
        let now = Timestamp::from_microsecond(0);
        let created = PostTitled { id, author_id, title: "Spring".to_owned() };
        let copy = PostCopy::of(&CloudEvent::new(id, 1, now, PostEvent::Created(created)));
        assert_eq!(existing(Some(copy.clone())).unwrap(), copy);

        let deleted = PostDeleted { id, author_id };
        let copy = PostCopy::of(&CloudEvent::new(id, 2, now, PostEvent::Deleted(deleted)));
        assert_eq!((copy.sequence, copy.expires_at), (2, Some(TOMBSTONE_LIFE)));
        assert!(existing(Some(copy)).is_err());
    }
}
