//! Events of posts.

use kernel::event::Payload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happens to posts. The subject is the post's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub enum PostEvent {
    /// A post was written.
    #[serde(rename = "post.created")]
    Created(PostTitled),
    /// Its author changed the post.
    #[serde(rename = "post.updated")]
    Updated(PostTitled),
    /// The post was deleted.
    #[serde(rename = "post.deleted")]
    Deleted(PostDeleted),
}

impl Payload for PostEvent {
    const SOURCE: &'static str = "madang.posts";
    const SUBJECT: &'static str = "post_id";
    const TYPES: &'static [&'static str] = &["post.created", "post.updated", "post.deleted"];

    fn subject(&self) -> Uuid {
        match self {
            Self::Created(post) | Self::Updated(post) => post.id,
            Self::Deleted(post) => post.id,
        }
    }
}

/// A post, without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct PostTitled {
    /// The post.
    pub id: Uuid,
    /// Who wrote it.
    pub author_id: Uuid,
    /// The title.
    #[cfg_attr(feature = "contract", schemars(length(min = 1, max = Self::MAX_TITLE)))]
    pub title: String,
}

impl PostTitled {
    /// Maximum characters of a title.
    pub const MAX_TITLE: usize = 200;
}

/// A deleted post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct PostDeleted {
    /// The post.
    pub id: Uuid,
    /// Who wrote it.
    pub author_id: Uuid,
}
