//! The aggregate: what a comment is and how it changes.

use events::{CommentCreated, CommentEvent, CommentRef};
use kernel::{
    clock::Timestamp,
    event::CloudEvent,
    input::Fields,
    problem::Problem,
    text::{self, Prose},
};
use runtime::users::user_copies::Author;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A comment's text: 1 byte to 4 KiB.
pub type Body = Prose<{ 4 * 1024 }>;

/// Reads the body for creating and for changing a comment: `{"body": …}`.
pub fn read_body(mut fields: Fields) -> Result<Body, Problem> {
    let body = fields.required("body");
    fields.finish(body)
}

/// A comment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Comment {
    /// The comment's id.
    pub id: Uuid,
    /// The post it is on.
    pub post_id: Uuid,
    /// Who wrote it.
    pub author: Author,
    /// The text.
    pub body: Body,
    /// When it was written.
    pub created_at: Timestamp,
    /// When its author last changed it.
    pub updated_at: Timestamp,
    /// 1 at first, increased by each edit.
    pub version: u64,
}

impl Comment {
    /// Creates a comment on the post `post_id` by `post_author_id`.
    pub fn write(
        id: Uuid,
        (post_id, post_author_id): (Uuid, Uuid),
        author: Author,
        body: Body,
        now: Timestamp,
    ) -> (Self, CloudEvent<CommentEvent>) {
        let comment = Self { id, post_id, author, body, created_at: now, updated_at: now, version: 1 };
        let created = CommentCreated {
            id,
            post_id,
            post_author_id,
            author_id: comment.author.id,
            author_name: comment.author.name.clone(),
            excerpt: text::excerpt(comment.body.as_str(), CommentCreated::MAX_EXCERPT),
        };
        let event = CloudEvent::new(id, 1, now, CommentEvent::Created(created));
        (comment, event)
    }

    /// Changes the text.
    #[must_use]
    pub fn edit(self, body: Body, now: Timestamp) -> (Self, CloudEvent<CommentEvent>) {
        let comment = Self { body, updated_at: now, version: self.version + 1, ..self };
        let event =
            CloudEvent::new(comment.id, comment.version, now, CommentEvent::Updated(comment.changed()));
        (comment, event)
    }

    /// Deletes the comment.
    pub fn delete(&self, now: Timestamp) -> CloudEvent<CommentEvent> {
        CloudEvent::new(self.id, self.version + 1, now, CommentEvent::Deleted(self.changed()))
    }

    /// Whether `user` may delete it: its author and the post's author may.
    pub fn may_be_deleted_by(&self, user: Uuid, post_author_id: Option<Uuid>) -> bool {
        self.author.id == user || post_author_id == Some(user)
    }

    fn changed(&self) -> CommentRef {
        CommentRef { id: self.id, post_id: self.post_id, author_id: self.author.id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: (Uuid, Uuid) = (Uuid::from_u128(1), Uuid::from_u128(8));

    fn body(text: &str) -> Body {
        Body::parse(text.to_owned()).unwrap()
    }

    fn author() -> Author {
        Author { id: Uuid::from_u128(7), name: "Ara".to_owned() }
    }

    fn given_a_comment() -> Comment {
        Comment::write(Uuid::from_u128(2), POST, author(), body("So do I."), Timestamp::now()).0
    }

    #[test]
    fn writing_publishes_the_post_its_author_and_the_beginning_of_the_text() {
        let long = "한".repeat(200);
        let (comment, event) =
            Comment::write(Uuid::from_u128(2), POST, author(), body(&long), Timestamp::now());
        assert_eq!((comment.version, event.sequence, event.subject), (1, 1, comment.id));
        let created = CommentCreated {
            id: comment.id,
            post_id: POST.0,
            post_author_id: POST.1,
            author_id: comment.author.id,
            author_name: "Ara".to_owned(),
            excerpt: "한".repeat(140),
        };
        assert_eq!(event.payload, CommentEvent::Created(created));
    }

    #[test]
    fn the_published_excerpt_is_one_line_that_ends_between_the_characters_that_people_see() {
        let excerpt = |text: &str| {
            let (_, event) = Comment::write(Uuid::from_u128(2), POST, author(), body(text), Timestamp::now());
            let CommentEvent::Created(created) = event.payload else { panic!("{event:?}") };
            created.excerpt
        };
        let beginning = "a".repeat(139);
        for whole in ["🇰🇷", "👩‍👩‍👧", "e\u{301}"] {
            assert_eq!(excerpt(&format!("{beginning}{whole}")), beginning);
        }
        assert_eq!(excerpt("So\r\n\r\ndo\t I.\n"), "So do I.");
    }

    #[test]
    fn an_edit_changes_the_text_and_increments_the_version() {
        let before = given_a_comment();
        let now = before.created_at.plus_seconds(5);
        let (after, event) = before.clone().edit(body("Not I."), now);
        assert_eq!(after, Comment { body: body("Not I."), updated_at: now, version: 2, ..before });
        assert_eq!(event.payload, CommentEvent::Updated(after.changed()));
    }

    #[test]
    fn only_its_author_and_the_posts_author_may_delete_it() {
        let comment = given_a_comment();
        assert!(comment.may_be_deleted_by(comment.author.id, None));
        assert!(comment.may_be_deleted_by(POST.1, Some(POST.1)));
        assert!(!comment.may_be_deleted_by(Uuid::from_u128(9), Some(POST.1)));
        assert!(!comment.may_be_deleted_by(Uuid::from_u128(9), None));
    }

    #[test]
    fn deleting_increments_the_version() {
        let comment = given_a_comment();
        let event = comment.delete(Timestamp::now());
        assert_eq!((event.sequence, event.payload), (2, CommentEvent::Deleted(comment.changed())));
    }
}
