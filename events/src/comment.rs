use kernel::event::Payload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happens to comments. The subject is the comment's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum CommentEvent {
    /// Somebody commented on a post.
    #[serde(rename = "comment.created")]
    Created(CommentCreated),
    /// Its author changed it.
    #[serde(rename = "comment.updated")]
    Updated(CommentChanged),
    /// It is gone.
    #[serde(rename = "comment.deleted")]
    Deleted(CommentChanged),
}

impl Payload for CommentEvent {
    const SOURCE: &'static str = "madang.comments";
    const TYPES: &'static [&'static str] = &["comment.created", "comment.updated", "comment.deleted"];
}

/// A new comment, with what it takes to tell the post's author about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommentCreated {
    /// The comment.
    pub id: Uuid,
    /// The post it is on.
    pub post_id: Uuid,
    /// Who wrote the post.
    pub post_author_id: Uuid,
    /// Who wrote the comment.
    pub author_id: Uuid,
    /// The display name of who wrote the comment.
    pub author_name: String,
    /// The comment's beginning, at most 140 characters.
    pub excerpt: String,
}

/// A comment that was changed or is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommentChanged {
    /// The comment.
    pub id: Uuid,
    /// The post it is on.
    pub post_id: Uuid,
    /// Who wrote the comment.
    pub author_id: Uuid,
}
