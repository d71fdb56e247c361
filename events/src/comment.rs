//! Events of comments.

use kernel::event::Payload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[cfg(feature = "contract")]
use crate::UserNamed;

/// What happens to comments. The subject is the comment's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub enum CommentEvent {
    /// Someone commented on a post.
    #[serde(rename = "comment.created")]
    Created(CommentCreated),
    /// Its author changed the comment.
    #[serde(rename = "comment.updated")]
    Updated(CommentRef),
    /// The comment was deleted.
    #[serde(rename = "comment.deleted")]
    Deleted(CommentRef),
}

impl Payload for CommentEvent {
    const SOURCE: &'static str = "madang.comments";
    const SUBJECT: &'static str = "comment_id";
    const TYPES: &'static [&'static str] = &["comment.created", "comment.updated", "comment.deleted"];

    fn subject(&self) -> Uuid {
        match self {
            Self::Created(comment) => comment.id,
            Self::Updated(comment) | Self::Deleted(comment) => comment.id,
        }
    }
}

/// A new comment, with what a notification of the post's author needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct CommentCreated {
    /// The comment.
    pub id: Uuid,
    /// The post it is on.
    pub post_id: Uuid,
    /// Who wrote the post.
    pub post_author_id: Uuid,
    /// Who wrote the comment.
    pub author_id: Uuid,
    /// The comment author's display name.
    #[cfg_attr(feature = "contract", schemars(length(min = 1, max = UserNamed::MAX_NAME)))]
    pub author_name: String,
    /// The comment's beginning.
    #[cfg_attr(feature = "contract", schemars(length(min = 1, max = Self::MAX_EXCERPT)))]
    pub excerpt: String,
}

impl CommentCreated {
    /// Maximum characters of an excerpt.
    pub const MAX_EXCERPT: usize = 140;
}

/// A comment that was changed or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct CommentRef {
    /// The comment.
    pub id: Uuid,
    /// The post it is on.
    pub post_id: Uuid,
    /// Who wrote the comment.
    pub author_id: Uuid,
}
