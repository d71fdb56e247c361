//! The HTTP endpoints.

use kernel::{
    clock::Timestamp,
    idempotency,
    page::{self, Cursor, Page},
    problem::{Kind, Problem},
};
use runtime::{
    http::{Reply, Request},
    table::Written,
    user_copies,
    users::UsersClient,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    post::{Draft, Edit, Post},
    store::{Posts, Record},
};

/// `POST /posts`.
pub async fn create((posts, users): &(Posts, UsersClient), request: &Request) -> Result<Reply, Problem> {
    let caller = request.caller()?;
    let id = idempotency::creation_id(caller.id, "POST /posts", request.idempotency_key()?.as_ref());
    let draft = Draft::read(request.json()?)?;
    let digest = idempotency::digest(&draft);

    let copy = posts.user(caller.id).await?;
    let (author, author_sequence) = user_copies::author(copy, caller, users, request).await?;
    let (post, event) = Post::write(id, author, draft, Timestamp::now());
    let record = Record::new(post, digest, author_sequence);
    let post = match posts.create(&record, event).await? {
        Written::Done => record.post,
        // A repeat gets the answer of the first request, even if the post has changed since.
        Written::Refused(Some(standing)) => {
            let first = standing.first_made(Record::origin, &record.request)?;
            Post { created_at: first, updated_at: first, ..record.post }
        }
        Written::Refused(None) => return Err(Problem::concurrent_change()),
    };
    Ok(Reply::created(&post, &format!("/posts/{}", post.id))?.etag(post.version))
}

/// `GET /posts` and `GET /posts?author={id}`, newest first.
pub async fn list(posts: &Posts, request: &Request) -> Result<Reply, Problem> {
    let author = request.query_id("author")?;
    let list = author.map_or_else(|| "posts".to_owned(), |author| format!("posts of {author}"));
    let limit = page::limit(request.query("limit"))?;
    let after = Cursor::decode(&list, request.query("cursor"))?;

    let (items, last) = posts.list(author, after, limit).await?;
    Reply::ok(&Page { items, next_cursor: last.map(|last| Cursor::encode(&list, &last)) })
}

/// `GET /posts/{id}`.
pub async fn get(posts: &Posts, request: &Request) -> Result<Reply, Problem> {
    let post = posts.find(request.id("id")?).await?;
    Ok(Reply::ok(&post)?.etag(post.version))
}

/// A post's author, as the API shows them.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "PostAuthor"))]
pub(crate) struct AuthorView {
    /// The user.
    id: Uuid,
    /// The display name.
    name: String,
    /// When the author registered.
    created_at: Timestamp,
    /// The version of the author's profile.
    version: u64,
}

/// `GET /posts/{id}/author`: the author's present profile, from the users service.
pub async fn author((posts, users): &(Posts, UsersClient), request: &Request) -> Result<Reply, Problem> {
    let post = posts.find(request.id("id")?).await?;
    let user = users.get(post.author.id, request.time_left()).await?;
    let user = user.ok_or_else(|| Problem::new(Kind::NotFound, "the author's profile has been deleted"))?;
    Reply::ok(&AuthorView {
        id: user.id,
        name: user.name,
        created_at: user.created_at,
        version: user.version,
    })
}

/// `PATCH /posts/{id}`, by its author.
pub async fn update(posts: &Posts, request: &Request) -> Result<Reply, Problem> {
    let (caller, id) = (request.caller()?, request.id("id")?);
    let edit = Edit::read(request.json()?)?;

    let post = posts.find_own(id, caller.id).await?.post;
    request.require_match(post.version)?;
    let read = post.version;
    let (post, event) = post.edit(edit, Timestamp::now());
    posts.save(read, &post, event).await?;
    Ok(Reply::ok(&post)?.etag(post.version))
}

/// `DELETE /posts/{id}`, by its author. The comments are deleted when `post.deleted` reaches them.
pub async fn delete(posts: &Posts, request: &Request) -> Result<Reply, Problem> {
    let (caller, id) = (request.caller()?, request.id("id")?);
    let record = posts.find_own(id, caller.id).await?;
    request.match_if_sent(record.post.version)?;
    let event = record.post.delete(Timestamp::now());
    posts.delete(&record, event).await?;
    Ok(Reply::no_content())
}
