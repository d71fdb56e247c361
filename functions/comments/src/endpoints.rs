//! The HTTP endpoints.

use futures::try_join;
use kernel::{
    clock::Timestamp,
    idempotency::{self, CreationRequest},
    problem::Problem,
};
use runtime::{
    serve::http::{Reply, Request},
    table::{aggregate::until_written, creation::Creation, limits::HourlyLimit},
    users::{UsersClient, user_copies},
};
use uuid::Uuid;

use crate::{
    comment::{Comment, read_body},
    store::Comments,
};

/// `POST /posts/{id}/comments`.
pub async fn create(
    (comments, users, limit): &(Comments, UsersClient, HourlyLimit),
    request: &Request,
) -> Result<Reply, Problem> {
    let (caller, post_id) = (request.caller()?, request.id("id")?);
    let endpoint = format!("POST /posts/{post_id}/comments");
    let key = request.idempotency_key()?;
    let body = read_body(request.json()?)?;
    let creation = CreationRequest::new(caller.id, &endpoint, key.as_ref(), &body);

    let read = comments.post_and_user(post_id, caller.id);
    let count = async { Ok(comments.allowance(caller.id, *limit).await?) };
    let ((post, copy), allowance) = try_join!(read, count)?;
    let (author, author_sequence) = user_copies::resolve_author(copy, caller, users, request).await?;
    comments.require_allowance(allowance, post_id, &creation).await?;
    let post = (post_id, post.author_id);
    let write = |now| Comment::write(creation.id(), post, author.clone(), body.clone(), now);
    let (comment, event) = write(Timestamp::now());
    let comment = match comments.create(&creation, comment, author_sequence, event).await? {
        Creation::Done(comment) => comment,
        Creation::Repeated(first) => write(first).0,
        Creation::KeyReused => return Err(idempotency::reused()),
    };
    let location = format!("comments/{}", comment.id);
    Ok(Reply::created(&comment, &location)?.etag_of_view(comment.version))
}

/// `GET /posts/{id}/comments`, oldest first.
pub async fn list(comments: &Comments, request: &Request) -> Result<Reply, Problem> {
    let post_id = request.id("id")?;
    let page = request.page(format!("comments on {post_id}"))?;

    comments.require_post(post_id).await?;
    let found = comments.list(post_id, &page).await?;
    Reply::ok(&found.into_page(&page))
}

/// `GET /posts/{id}/comments/{comment_id}`.
pub async fn get(comments: &Comments, request: &Request) -> Result<Reply, Problem> {
    let comment = comments.get(request.id("id")?, request.id("comment_id")?).await?;
    Ok(Reply::ok(&comment)?.etag_of_view(comment.version))
}

/// `PATCH /posts/{id}/comments/{comment_id}`, by its author.
pub async fn update(comments: &Comments, request: &Request) -> Result<Reply, Problem> {
    let (caller, post_id, id) = path(request)?;
    let body = read_body(request.json()?)?;

    let edited = until_written(async || {
        let comment = comments.find(post_id, id, caller).await?.0.aggregate.comment;
        if comment.author.id != caller {
            return Err(Problem::forbidden("comment"));
        }
        request.require_match(comment.version)?;
        let version_read = comment.version;
        let (comment, event) = comment.edit(body.clone(), Timestamp::now());
        Ok(comments.save(version_read, &comment, event).await?.then_some(comment))
    });
    let comment = edited.await?.ok_or_else(Problem::concurrent_change)?;
    Ok(Reply::ok(&comment)?.etag_of_view(comment.version))
}

/// `DELETE /posts/{id}/comments/{comment_id}`, by its author or the post's.
pub async fn delete(comments: &Comments, request: &Request) -> Result<Reply, Problem> {
    let (caller, post_id, id) = path(request)?;
    let deleted = until_written(async || {
        let (record, post_author_id) = comments.find(post_id, id, caller).await?;
        let comment = &record.aggregate.comment;
        if !comment.may_be_deleted_by(caller, post_author_id) {
            return Err(Problem::forbidden("comment"));
        }
        request.check_match(comment.version)?;
        Ok(comments.delete(&record, comment.delete(Timestamp::now())).await?.then_some(()))
    });
    deleted.await?.ok_or_else(Problem::concurrent_change)?;
    Ok(Reply::no_content())
}

/// The caller, the post and the comment of a request.
fn path(request: &Request) -> Result<(Uuid, Uuid, Uuid), Problem> {
    Ok((request.caller()?.id, request.id("id")?, request.id("comment_id")?))
}
