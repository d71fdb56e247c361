//! Posts in the table, one item each, beside the copies of the users' names.

use events::PostEvent;
use kernel::{clock::Timestamp, event::CloudEvent, precondition, problem::Problem};
use runtime::{
    Error,
    aggregate::{Origin, Stored},
    table::{self, Key, Query, Row, Table, Written},
    user_copies::{self, UserCopy},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::post::{Body, Post, Title};

/// The one partition of the index of all posts. It takes 1,000 new posts a second, DynamoDB's limit for a partition; their size
/// does not matter, because the index has only keys.
const FEED: &str = "feed";
/// Maximum bytes of text in one page, not counting its last post. Lambda's answer may have 6 MB, and a quote takes four bytes in
/// it: JSON escapes it, and the answer is JSON within JSON.
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// A post as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The post.
    #[serde(flatten)]
    pub post: Post,
    /// The digest of the request that wrote it.
    pub request: String,
    /// The version of the author's profile from which the name was copied.
    author_sequence: u64,
    /// The partition of the index `feed`.
    feed: String,
    /// The partition of the index `by_author`.
    author_id: Uuid,
    /// The sort key of both indexes.
    created: String,
}

impl Record {
    /// A new post, created by the request with this digest, with the name from version `author_sequence` of the author's profile.
    pub fn new(post: Post, request: String, author_sequence: u64) -> Self {
        Self {
            request,
            author_sequence,
            feed: FEED.to_owned(),
            author_id: post.author.id,
            created: format!("{}#{}", post.created_at, post.id),
            post,
        }
    }

    /// The request that wrote it, and when.
    pub fn origin(&self) -> Origin {
        Origin { created_at: self.post.created_at, request: self.request.clone() }
    }
}

/// The posts.
#[derive(Clone, Debug)]
pub struct Posts {
    table: Table,
}

fn key(id: Uuid) -> Key {
    Key::new(format!("post#{id}"), "post")
}

fn by_author(author: Uuid) -> Query {
    Query {
        index: "by_author",
        partition: ("author_id", author.to_string()),
        sort: "created",
        after: None,
        newest_first: true,
        limit: 0,
    }
}

impl Posts {
    /// Connects to the table.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self { table: Table::connect().await? })
    }

    /// The table, for the consumers' cascades.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// This service's copy of a user.
    pub async fn user(&self, id: Uuid) -> Result<Option<UserCopy>, table::Error> {
        self.table.get(user_copies::key(id)).await
    }

    /// The post; 404 if there is none.
    pub async fn find(&self, id: Uuid) -> Result<Post, Problem> {
        let stored: Option<Stored<Post>> = self.table.get(key(id)).await?;
        stored.and_then(Stored::live).ok_or_else(|| Problem::not_found("post"))
    }

    /// The post, for a change by the caller; 403 if the caller is not its author.
    pub async fn find_own(&self, id: Uuid, caller: Uuid) -> Result<Record, Problem> {
        let (post, user) = (key(id), user_copies::key(caller));
        let mut items = self.table.read(&[post.clone(), user.clone()]).await?;
        user_copies::refuse_deleted(items.take(&user)?.as_ref())?;
        let stored: Option<Stored<Record>> = items.take(&post)?;
        let record = stored.and_then(Stored::live).ok_or_else(|| Problem::not_found("post"))?;
        if record.post.author.id == caller { Ok(record) } else { Err(Problem::forbidden("post")) }
    }

    /// A page of all posts, or of one author's, newest first.
    pub async fn list(
        &self,
        author: Option<Uuid>,
        after: Option<String>,
        limit: u32,
    ) -> Result<(Vec<Post>, Option<String>), table::Error> {
        let list = match author {
            Some(author) => by_author(author),
            None => Query { index: "feed", partition: ("feed", FEED.to_owned()), ..by_author(Uuid::nil()) },
        };
        let rows = self.table.query::<Row>(&Query { after, limit, ..list }).await?;
        let keys: Vec<Key> = rows.items.iter().map(|row| row.key.clone()).collect();
        let mut items = self.table.read(&keys).await?;

        let mut posts = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        for (position, row) in rows.items.iter().enumerate() {
            // A post that was deleted after the index was read is a tombstone now.
            if let Some(Stored::Live(post)) = items.take::<Stored<Post>>(&row.key)? {
                bytes += post.body.as_str().len();
                posts.push(post);
            }
            let last = position + 1 == rows.items.len();
            if (last && rows.more) || (!last && bytes > MAX_PAGE_BYTES) {
                return Ok((posts, Some(row.created.clone())));
            }
        }
        Ok((posts, None))
    }

    /// Stores a new post.
    pub async fn create(
        &self,
        record: &Record,
        event: CloudEvent<PostEvent>,
    ) -> Result<Written<Stored<Record>>, table::Error> {
        self.table.create(key(record.post.id), record, event).await
    }

    /// Replaces version `read` by an edited one; 412 if that is no longer the current version.
    pub async fn save(&self, read: u64, post: &Post, event: CloudEvent<PostEvent>) -> Result<(), Problem> {
        #[derive(Serialize)]
        struct Edited<'a> {
            title: &'a Title,
            body: &'a Body,
            updated_at: Timestamp,
            version: u64,
        }
        let Post { title, body, updated_at, version, .. } = post;
        let edited = Edited { title, body, updated_at: *updated_at, version: *version };
        self.table.save(key(post.id), read, &edited, event).await?.done_or(precondition::stale)
    }

    /// Deletes a post; 409 if another request changed it at the same time.
    pub async fn delete(&self, record: &Record, event: CloudEvent<PostEvent>) -> Result<(), Problem> {
        let Post { id, version, .. } = record.post;
        let written = self.table.bury(key(id), version, Some(record.origin()), event).await?;
        written.done_or(Problem::concurrent_change)
    }

    /// The list of an author's posts, for a cascade.
    pub fn of_author(author: Uuid) -> Query {
        by_author(author)
    }

    /// Deletes a post because its author was deleted.
    pub async fn delete_with_author(
        &self,
        post: Key,
        delete: impl Fn(&Post) -> CloudEvent<PostEvent>,
    ) -> Result<(), table::Error> {
        let bury = |record: Record| (record.post.version, Some(record.origin()), delete(&record.post));
        self.table.bury_latest(post, bury).await
    }
}
