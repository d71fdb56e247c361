//! The consumers of events.

use events::UserEvent;
use kernel::clock::Timestamp;
use runtime::{
    serve::queue::{self, ConsumerError, Delivery, Outcome},
    users::user_copies::{self, Author},
};

use crate::store::Posts;

/// Updates the copy of the user's name and the name in their posts; deletes a deleted user's posts.
pub async fn on_user(posts: &Posts, delivery: &Delivery<UserEvent>) -> Result<Outcome, ConsumerError> {
    let event = &delivery.event;
    let copied = user_copies::apply(posts.table(), event).await?;
    let list = Posts::of_author(event.subject);
    let work = async {
        match &event.payload {
            UserEvent::Created(_) => Ok(Outcome::Applied),
            UserEvent::Updated(user) => {
                let author = Author { id: user.id, name: user.name.clone() };
                let rename =
                    async |post| user_copies::rename(posts.table(), post, &author, event.sequence).await;
                delivery.cascade(posts.table(), &list, rename).await
            }
            UserEvent::Deleted(_) => {
                let delete =
                    async |post| posts.delete_with_author(post, |post| post.delete(Timestamp::now())).await;
                delivery.cascade(posts.table(), &list, delete).await
            }
        }
    };
    queue::follow_up(copied, work).await
}
