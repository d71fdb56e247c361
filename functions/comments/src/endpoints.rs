//! The HTTP endpoints.

use kernel::{
    clock::Timestamp,
    idempotency,
    page::{self, Cursor, Page},
    problem::Problem,
};
use runtime::{
    http::{Reply, Request},
    table::Written,
    user_copies,
    users::UsersClient,
};
use uuid::Uuid;

use crate::{
    comment::{Comment, read_body},
    store::{Comments, Record},
};

/// `POST /posts/{id}/comments`.
pub async fn create(
    (comments, users): &(Comments, UsersClient),
    request: &Request,
) -> Result<Reply, Problem> {
    let (caller, post_id) = (request.caller()?, request.id("id")?);
    let endpoint = format!("POST /posts/{post_id}/comments");
    let id = idempotency::creation_id(caller.id, &endpoint, request.idempotency_key()?.as_ref());
    let body = read_body(request.json()?)?;
    let digest = idempotency::digest(&body);

    let (post, copy) = comments.post_and_user(post_id, caller.id).await?;
    let (author, author_sequence) = user_copies::author(copy, caller, users, request).await?;
    let (comment, event) = Comment::write(id, (post_id, post.author_id), author, body, Timestamp::now());
    let record = Record::new(comment, digest, author_sequence);
    let comment = match comments.create(&record, event).await? {
        Written::Done => record.comment,
        // A repeat gets the answer of the first request, even if the comment has changed since.
        Written::Refused(Some(standing)) => {
            let first = standing.first_made(Record::origin, &record.request)?;
            Comment { created_at: first, updated_at: first, ..record.comment }
        }
        Written::Refused(None) => return Err(Problem::concurrent_change()),
    };
    let location = format!("/posts/{post_id}/comments/{}", comment.id);
    Ok(Reply::created(&comment, &location)?.etag(comment.version))
}

/// `GET /posts/{id}/comments`, oldest first.
pub async fn list(comments: &Comments, request: &Request) -> Result<Reply, Problem> {
    let post_id = request.id("id")?;
    let list = format!("comments on {post_id}");
    let limit = page::limit(request.query("limit"))?;
    let after = Cursor::decode(&list, request.query("cursor"))?;

    comments.require_post(post_id).await?;
    let found = comments.list(post_id, after, limit).await?;
    let last = found.items.last().filter(|_| found.more).map(|record| Cursor::encode(&list, &record.created));
    let items: Vec<Comment> = found.items.into_iter().map(|record| record.comment).collect();
    Reply::ok(&Page { items, next_cursor: last })
}

/// `PATCH /posts/{id}/comments/{comment_id}`, by its author.
pub async fn update(comments: &Comments, request: &Request) -> Result<Reply, Problem> {
    let (caller, post_id, id) = path(request)?;
    let body = read_body(request.json()?)?;

    let comment = comments.find(post_id, id, caller).await?.0.comment;
    if comment.author.id != caller {
        return Err(Problem::forbidden("comment"));
    }
    request.require_match(comment.version)?;
    let read = comment.version;
    let (comment, event) = comment.edit(body, Timestamp::now());
    comments.save(read, &comment, event).await?;
    Ok(Reply::ok(&comment)?.etag(comment.version))
}

/// `DELETE /posts/{id}/comments/{comment_id}`, by its author or the post's.
pub async fn delete(comments: &Comments, request: &Request) -> Result<Reply, Problem> {
    let (caller, post_id, id) = path(request)?;
    let (record, post_author_id) = comments.find(post_id, id, caller).await?;
    if !record.comment.may_be_deleted_by(caller, post_author_id) {
        return Err(Problem::forbidden("comment"));
    }
    request.match_if_sent(record.comment.version)?;
    let event = record.comment.delete(Timestamp::now());
    comments.delete(&record, event).await?;
    Ok(Reply::no_content())
}

/// The caller, the post and the comment of a request.
fn path(request: &Request) -> Result<(Uuid, Uuid, Uuid), Problem> {
    Ok((request.caller()?.id, request.id("id")?, request.id("comment_id")?))
}
