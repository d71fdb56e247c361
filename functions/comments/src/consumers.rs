//! The consumers of events.

use events::{PostEvent, UserEvent};
use kernel::clock::Timestamp;
use runtime::{
    serve::queue::{self, ConsumerError, Delivery, Outcome},
    table::List,
    users::user_copies::{self, Author},
};

use crate::store::Comments;

/// Updates the copy of the user's name and the name in their comments; deletes a deleted user's comments.
pub async fn on_user(comments: &Comments, delivery: &Delivery<UserEvent>) -> Result<Outcome, ConsumerError> {
    let event = &delivery.event;
    let copied = user_copies::apply(comments.table(), event).await?;
    let list = Comments::of_author(event.subject);
    let work = async {
        match &event.payload {
            UserEvent::Created(_) => Ok(Outcome::Applied),
            UserEvent::Updated(user) => {
                let author = Author { id: user.id, name: user.name.clone() };
                let rename = async |comment| {
                    user_copies::rename(comments.table(), comment, &author, event.sequence).await
                };
                delivery.cascade(comments.table(), &list, rename).await
            }
            UserEvent::Deleted(_) => delete_all(comments, delivery, &list).await,
        }
    };
    queue::follow_up(copied, work).await
}

/// Updates the copy of the post; deletes a deleted post's comments.
pub async fn on_post(comments: &Comments, delivery: &Delivery<PostEvent>) -> Result<Outcome, ConsumerError> {
    let event = &delivery.event;
    let copied = comments.apply_post(event).await?;
    let list = Comments::of_post(event.subject);
    let work = async {
        match &event.payload {
            PostEvent::Created(_) | PostEvent::Updated(_) => Ok(Outcome::Applied),
            PostEvent::Deleted(_) => delete_all(comments, delivery, &list).await,
        }
    };
    queue::follow_up(copied, work).await
}

async fn delete_all<P>(
    comments: &Comments,
    delivery: &Delivery<P>,
    list: &List,
) -> Result<Outcome, ConsumerError> {
    let delete =
        async |comment| comments.delete_with(comment, |comment| comment.delete(Timestamp::now())).await;
    delivery.cascade(comments.table(), list, delete).await
}
