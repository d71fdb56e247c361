//! The HTTP endpoints.

use futures::try_join;
use kernel::{
    clock::Timestamp,
    idempotency::{self, CreationRequest},
    problem::{Kind, Problem},
};
use runtime::{
    serve::http::{Reply, Request},
    table::{aggregate::until_written, creation::Creation, limits::HourlyLimit},
    users::{UsersClient, user_copies},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    post::{Draft, Edit, Post},
    store::Posts,
};

/// `POST /posts`.
pub async fn create(
    (posts, users, limit): &(Posts, UsersClient, HourlyLimit),
    request: &Request,
) -> Result<Reply, Problem> {
    let caller = request.caller()?;
    let key = request.idempotency_key()?;
    let draft = Draft::read(request.json()?)?;
    let creation = CreationRequest::new(caller.id, "POST /posts", key.as_ref(), &draft);

    let (copy, allowance) = try_join!(posts.user(caller.id), posts.allowance(caller.id, *limit))?;
    let (author, author_sequence) = user_copies::resolve_author(copy, caller, users, request).await?;
    posts.require_allowance(allowance, &creation).await?;
    let write = |now| Post::write(creation.id(), author.clone(), draft.clone(), now);
    let (post, event) = write(Timestamp::now());
    let post = match posts.create(&creation, post, author_sequence, event).await? {
        Creation::Done(post) => post,
        Creation::Repeated(first) => write(first).0,
        Creation::KeyReused => return Err(idempotency::reused()),
    };
    Ok(Reply::created(&post, &format!("posts/{}", post.id))?.etag_of_view(post.version))
}

/// `GET /posts` and `GET /posts?author={id}`, newest first.
pub async fn list(posts: &Posts, request: &Request) -> Result<Reply, Problem> {
    let author = request.query_id("author")?;
    let list = author.map_or_else(|| "posts".to_owned(), |author| format!("posts of {author}"));
    let page = request.page(list)?;

    let found = posts.list(author, &page).await?;
    Reply::ok(&found.into_page(&page))
}

/// `GET /posts/{id}`.
pub async fn get(posts: &Posts, request: &Request) -> Result<Reply, Problem> {
    let post = posts.find(request.id("id")?).await?;
    Ok(Reply::ok(&post)?.etag_of_view(post.version))
}

/// A post's author, as the API shows them.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "PostAuthor"))]
pub(crate) struct AuthorProfile {
    /// The user.
    id: Uuid,
    /// The display name.
    name: String,
    /// When the author registered.
    created_at: Timestamp,
    /// The version of the author's profile.
    version: u64,
}

/// `GET /posts/{id}/author`: the author's current profile, from the users service.
pub async fn author((posts, users): &(Posts, UsersClient), request: &Request) -> Result<Reply, Problem> {
    let post = posts.find(request.id("id")?).await?;
    let user = users.get(post.author.id, request.deadline()).await?;
    let user = user.ok_or_else(|| Problem::new(Kind::NotFound, "the author's profile has been deleted"))?;
    Reply::ok(&AuthorProfile {
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

    let edited = until_written(async || {
        let post = posts.find_own(id, caller.id).await?.aggregate.post;
        request.require_match(post.version)?;
        let version_read = post.version;
        let (post, event) = post.edit(edit.clone(), Timestamp::now());
        Ok::<_, Problem>(posts.save(version_read, &post, event).await?.then_some(post))
    });
    let post = edited.await?.ok_or_else(Problem::concurrent_change)?;
    Ok(Reply::ok(&post)?.etag_of_view(post.version))
}

/// `DELETE /posts/{id}`, by its author. The comments are deleted when `post.deleted` reaches them.
pub async fn delete(posts: &Posts, request: &Request) -> Result<Reply, Problem> {
    let (caller, id) = (request.caller()?, request.id("id")?);
    let deleted = until_written(async || {
        let record = posts.find_own(id, caller.id).await?;
        let post = &record.aggregate.post;
        request.check_match(post.version)?;
        Ok::<_, Problem>(posts.delete(&record, post.delete(Timestamp::now())).await?.then_some(()))
    });
    deleted.await?.ok_or_else(Problem::concurrent_change)?;
    Ok(Reply::no_content())
}
