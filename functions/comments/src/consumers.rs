//! The consumers of events.

use events::{PostEvent, UserEvent};
use kernel::clock::Timestamp;
use runtime::{
    copies::Standing,
    queue::{Delivery, Failure, Outcome},
    user_copies::{self, Author},
};

use crate::store::Comments;

/// Updates the copy of the user's name and the name in their comments; deletes a deleted user's comments.
pub async fn on_user(comments: &Comments, delivery: &Delivery<UserEvent>) -> Result<Outcome, Failure> {
    let event = &delivery.event;
    if user_copies::apply(comments.table(), event).await? == Standing::Overtaken {
        return Ok(Outcome::AlreadyApplied);
    }
    let list = Comments::of_author(event.subject);
    match &event.payload {
        UserEvent::Created(_) => Ok(Outcome::Applied),
        UserEvent::Updated(user) => {
            let author = Author { id: user.id, name: user.name.clone() };
            let rename =
                async |comment| user_copies::rename(comments.table(), comment, &author, event.sequence).await;
            delivery.cascade(comments.table(), list, rename).await
        }
        UserEvent::Deleted(_) => {
            let delete = async |comment| {
                comments.delete_with(comment, |comment| comment.delete(Timestamp::now())).await
            };
            delivery.cascade(comments.table(), list, delete).await
        }
    }
}

/// Keeps a copy of which posts exist and who wrote them; deletes a deleted post's comments.
pub async fn on_post(comments: &Comments, delivery: &Delivery<PostEvent>) -> Result<Outcome, Failure> {
    let event = &delivery.event;
    if comments.apply_post(event).await? == Standing::Overtaken {
        return Ok(Outcome::AlreadyApplied);
    }
    match &event.payload {
        PostEvent::Created(_) | PostEvent::Updated(_) => Ok(Outcome::Applied),
        PostEvent::Deleted(_) => {
            let delete = async |comment| {
                comments.delete_with(comment, |comment| comment.delete(Timestamp::now())).await
            };
            delivery.cascade(comments.table(), Comments::of_post(event.subject), delete).await
        }
    }
}
