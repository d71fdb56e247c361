//! The aggregate: what a post is and how it changes.

use events::{PostDeleted, PostEvent, PostTitled};
use kernel::{
    clock::Timestamp,
    event::CloudEvent,
    input::Fields,
    problem::Problem,
    text::{Line, Prose},
};
use runtime::users::user_copies::Author;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A title: 1 to 200 characters.
pub type Title = Line<{ PostTitled::MAX_TITLE }>;
/// A post's text: 1 byte to 64 KiB.
pub type Body = Prose<{ 64 * 1024 }>;

/// The body of `POST /posts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "NewPost"))]
pub struct Draft {
    /// The title.
    pub title: Title,
    /// The text.
    pub body: Body,
}

impl Draft {
    /// Reads `{"title": …, "body": …}`.
    pub fn read(mut fields: Fields) -> Result<Self, Problem> {
        let read = (fields.required("title"), fields.required("body"));
        let (title, body) = fields.finish(read)?;
        Ok(Self { title, body })
    }
}

/// The body of `PATCH /posts/{id}`: a title, a text, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "PostEdit", extend("minProperties" = 1)))]
pub struct Edit {
    /// The new title, if it changes.
    pub title: Option<Title>,
    /// The new text, if it changes.
    pub body: Option<Body>,
}

impl Edit {
    /// Reads `{"title": …, "body": …}`, of which one may be missing.
    pub fn read(mut fields: Fields) -> Result<Self, Problem> {
        let read = (fields.optional("title"), fields.optional("body"));
        match fields.finish(read)? {
            (None, None) => Err(Problem::invalid_field("", "must have title, body or both")),
            (title, body) => Ok(Self { title, body }),
        }
    }
}

/// A post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Post {
    /// The post's id.
    pub id: Uuid,
    /// Who wrote it.
    pub author: Author,
    /// The title.
    pub title: Title,
    /// The text.
    pub body: Body,
    /// When it was written.
    pub created_at: Timestamp,
    /// When its author last changed it.
    pub updated_at: Timestamp,
    /// 1 at first, increased by each edit.
    pub version: u64,
}

impl Post {
    /// A new post and its event.
    pub fn write(id: Uuid, author: Author, draft: Draft, now: Timestamp) -> (Self, CloudEvent<PostEvent>) {
        let Draft { title, body } = draft;
        let post = Self { id, author, title, body, created_at: now, updated_at: now, version: 1 };
        let event = CloudEvent::new(id, 1, now, PostEvent::Created(post.titled()));
        (post, event)
    }

    /// The post after the edit, and its event.
    #[must_use]
    pub fn edit(self, edit: Edit, now: Timestamp) -> (Self, CloudEvent<PostEvent>) {
        let post = Self {
            title: edit.title.unwrap_or(self.title),
            body: edit.body.unwrap_or(self.body),
            updated_at: now,
            version: self.version + 1,
            ..self
        };
        let event = CloudEvent::new(post.id, post.version, now, PostEvent::Updated(post.titled()));
        (post, event)
    }

    /// The event of its deletion.
    pub fn delete(&self, now: Timestamp) -> CloudEvent<PostEvent> {
        let deleted = PostDeleted { id: self.id, author_id: self.author.id };
        CloudEvent::new(self.id, self.version + 1, now, PostEvent::Deleted(deleted))
    }

    fn titled(&self) -> PostTitled {
        PostTitled { id: self.id, author_id: self.author.id, title: self.title.as_str().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(title: &str, body: &str) -> Draft {
        Draft { title: Title::parse(title.to_owned()).unwrap(), body: Body::parse(body.to_owned()).unwrap() }
    }

    fn given_a_post() -> Post {
        let author = Author { id: Uuid::from_u128(7), name: "Ara".to_owned() };
        Post::write(Uuid::from_u128(1), author, draft("Spring", "It rains."), Timestamp::now()).0
    }

    #[test]
    fn writing_makes_version_one_and_publishes_the_title_but_not_the_text() {
        let now = Timestamp::now();
        let author = Author { id: Uuid::from_u128(7), name: "Ara".to_owned() };
        let (post, event) = Post::write(Uuid::from_u128(1), author, draft("Spring", "It rains."), now);
        assert_eq!((post.version, post.created_at, post.updated_at), (1, now, now));
        assert_eq!((event.sequence, event.subject, event.time), (1, post.id, now));
        let titled = PostTitled { id: post.id, author_id: Uuid::from_u128(7), title: "Spring".to_owned() };
        assert_eq!(event.payload, PostEvent::Created(titled));
    }

    #[test]
    fn an_edit_changes_the_fields_that_it_names_and_increments_the_version() {
        let before = given_a_post();
        let edit = Edit { title: Some(Title::parse("Summer".to_owned()).unwrap()), body: None };
        let now = before.created_at.plus_seconds(5);
        let (after, event) = before.clone().edit(edit, now);
        let expected =
            Post { title: Title::parse("Summer".to_owned()).unwrap(), updated_at: now, version: 2, ..before };
        assert_eq!(after, expected);
        assert_eq!((event.sequence, event.time), (2, now));
    }

    #[test]
    fn deleting_increments_the_version() {
        let post = given_a_post();
        let event = post.delete(Timestamp::now());
        assert_eq!(event.sequence, 2);
        assert_eq!(event.payload, PostEvent::Deleted(PostDeleted { id: post.id, author_id: post.author.id }));
    }

    #[test]
    fn an_edit_names_at_least_one_field_and_none_of_them_null() {
        let read = |body: &str| Edit::read(Fields::read(body.as_bytes()).unwrap());
        assert!(read(r#"{"body": "x"}"#).unwrap().title.is_none());
        for bad in ["{}", r#"{"title": null}"#, r#"{"title": "a", "author": "b"}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
