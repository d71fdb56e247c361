//! Posts in the table, one item each, beside the copies of the users' names.

use events::PostEvent;
use kernel::{
    clock::Timestamp, event::CloudEvent, idempotency::CreationRequest, page::PageRequest, problem::Problem,
};
use runtime::{
    Error,
    table::{
        self, Found, Key, List, Table, Written,
        aggregate::Stored,
        creation::{Creatable, Creation, WithRequest},
        limits::{self, Allowance, Counted, HourlyLimit},
    },
    users::user_copies::{self, UserCopy},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::post::{Body, Post, Title};

/// The one partition of the index of all posts. It takes 1,000 new posts a second, DynamoDB's limit for a partition; their size
/// does not matter, because the index has only keys.
const FEED: &str = "feed";
/// Maximum bytes of text in one page before its last post. Lambda's response may have 6 MB, in which a quote takes four bytes:
/// JSON escapes it, and the response is JSON within JSON.
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// A post as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The post.
    #[serde(flatten)]
    pub post: Post,
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
    /// A new post, with the name from version `author_sequence` of the author's profile.
    fn new(post: Post, author_sequence: u64) -> Self {
        Self {
            author_sequence,
            feed: FEED.to_owned(),
            author_id: post.author.id,
            created: format!("{}#{}", post.created_at, post.id),
            post,
        }
    }
}

impl Creatable for Record {
    fn created_at(&self) -> Timestamp {
        self.post.created_at
    }

    fn counted(&self) -> Option<Counted> {
        Some(Counted::by(self.author_id, &self.created))
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
    pub async fn find_own(&self, id: Uuid, caller: Uuid) -> Result<WithRequest<Record>, Problem> {
        let (post, user) = (key(id), user_copies::key(caller));
        let mut items = self.table.batch_get(&[post.clone(), user.clone()]).await?;
        user_copies::refuse_deleted(items.take(&user)?.as_ref())?;
        let stored: Option<Stored<WithRequest<Record>>> = items.take(&post)?;
        let record = stored.and_then(Stored::live).ok_or_else(|| Problem::not_found("post"))?;
        if record.aggregate.post.author.id == caller { Ok(record) } else { Err(Problem::forbidden("post")) }
    }

    /// A page of all posts, or of one author's, newest first.
    pub async fn list(&self, author: Option<Uuid>, page: &PageRequest) -> Result<Found<Post>, table::Error> {
        let list = author.map_or_else(Self::all, Self::of_author);
        let found = self.table.page_of_items::<Stored<Post>>(&list, page.after(), page.limit()).await?;
        // A post that was deleted after the index was read is a tombstone now.
        let posts = found.filter_map(Stored::live);
        let mut bytes = 0;
        let fits = posts.items().take_while(|post| {
            let full = bytes > MAX_PAGE_BYTES;
            bytes += post.body.as_str().len();
            !full
        });
        let count = fits.count();
        Ok(posts.limit(count))
    }

    /// What the author may still write, deleted posts included.
    pub async fn allowance(&self, author: Uuid, limit: HourlyLimit) -> Result<Allowance, table::Error> {
        self.table.allowance(&limits::with_deleted(Self::of_author(author)), limit).await
    }

    /// 429 if nothing is left, unless the request is a repeat.
    pub async fn require_allowance(
        &self,
        allowance: Allowance,
        request: &CreationRequest,
    ) -> Result<(), Problem> {
        self.table.require_allowance(allowance, key(request.id())).await
    }

    /// Stores a new post, with the name from version `author_sequence` of the author's profile.
    pub async fn create(
        &self,
        request: &CreationRequest,
        post: Post,
        author_sequence: u64,
        event: CloudEvent<PostEvent>,
    ) -> Result<Creation<Post>, table::Error> {
        let record = Record::new(post, author_sequence);
        let creation = self.table.create_once(key(record.post.id), request, record, event).await?;
        Ok(creation.map(|record| record.post))
    }

    /// Writes an edit of version `version_read`, if that is still the current version.
    pub async fn save(
        &self,
        version_read: u64,
        post: &Post,
        event: CloudEvent<PostEvent>,
    ) -> Result<Written<()>, table::Error> {
        #[derive(Serialize)]
        struct Edited<'a> {
            title: &'a Title,
            body: &'a Body,
            updated_at: Timestamp,
            version: u64,
        }
        let Post { title, body, updated_at, version, .. } = post;
        let edited = Edited { title, body, updated_at: *updated_at, version: *version };
        self.table.save(key(post.id), version_read, &edited, event).await
    }

    /// Deletes a post, if its version is still the one that was read.
    pub async fn delete(
        &self,
        record: &WithRequest<Record>,
        event: CloudEvent<PostEvent>,
    ) -> Result<Written<()>, table::Error> {
        let Post { id, version, .. } = record.aggregate.post;
        self.table.bury(key(id), version, Some(record.origin()), event).await
    }

    /// The list of all posts.
    fn all() -> List {
        List { index: "feed", partition: ("feed", FEED.to_owned()), sort: "created", newest_first: true }
    }

    /// The list of an author's posts.
    pub fn of_author(author: Uuid) -> List {
        let partition = ("author_id", author.to_string());
        List { index: "by_author", partition, sort: "created", newest_first: true }
    }

    /// Deletes a post because its author was deleted.
    pub async fn delete_with_author(
        &self,
        post: Key,
        delete: impl Fn(&Post) -> CloudEvent<PostEvent>,
    ) -> Result<(), table::Error> {
        let bury = |record: WithRequest<Record>| {
            let post = &record.aggregate.post;
            (post.version, Some(record.origin()), delete(post))
        };
        self.table.bury_latest(post, bury).await
    }
}
