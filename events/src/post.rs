use kernel::event::Payload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happens to posts. The subject is the post's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum PostEvent {
    /// A post was written.
    #[serde(rename = "post.created")]
    Created(PostTitled),
    /// Its author changed it.
    #[serde(rename = "post.updated")]
    Updated(PostTitled),
    /// It is gone.
    #[serde(rename = "post.deleted")]
    Deleted(PostDeleted),
}

impl Payload for PostEvent {
    const SOURCE: &'static str = "madang.posts";
    const TYPES: &'static [&'static str] = &["post.created", "post.updated", "post.deleted"];
}

/// A post, without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostTitled {
    /// The post.
    pub id: Uuid,
    /// Who wrote it.
    pub author_id: Uuid,
    /// Its title, 1 to 200 characters.
    pub title: String,
}

/// A post that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostDeleted {
    /// The post.
    pub id: Uuid,
    /// Who wrote it.
    pub author_id: Uuid,
}
