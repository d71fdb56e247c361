//! The contract of the endpoints, for `infra/openapi.json`.

use kernel::{
    contract::{Header, Operation, json},
    operation,
    page::Page,
    problem::Kind,
};
use uuid::Uuid;

use crate::{
    endpoints::{self, AuthorProfile},
    post::{Draft, Edit, Post},
};

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let (id, author) = ("0190a6c5-1c44-7d27-8f0c-1e8a4b105f0c", "0190a6c4-7d1e-7b52-9c3f-2f0c1e8a4b10");
    let post = json!({
        "id": id, "author": {"id": author, "name": "Ara"}, "title": "Spring", "body": "It rains.",
        "created_at": "2026-05-04T09:30:00.123456Z", "updated_at": "2026-05-04T09:30:00.123456Z", "version": 1,
    });
    let mut edited = post.clone();
    (edited["title"], edited["version"]) = (json!("Summer"), json!(2));
    edited["updated_at"] = json!("2026-05-04T10:00:00.654321Z");
    vec![
        operation!("posts-create", "POST", "/posts", endpoints::create)
            .named("createPost", "Write a post")
            .about("The caller is its author. Everyone can read it. One person may write 30 an hour, unless the operator has set another limit.")
            .with_profile()
            .creates()
            .limited_per_person()
            .refuses(&[Kind::Conflict])
            .takes::<Draft>(json!({"title": "Spring", "body": "It rains."}))
            .answers::<Post>(201, "The post.", post.clone())
            .with_headers(&[Header::ETag, Header::Location("posts/0190a6c5-1c44-7d27-8f0c-1e8a4b105f0c")])
            .leads_to("getPost", &[("id", "$response.body#/id")])
            .leads_to("updatePost", &[("id", "$response.body#/id"), ("If-Match", "$response.header.ETag")])
            .leads_to("deletePost", &[("id", "$response.body#/id")])
            .leads_to("getPostAuthor", &[("id", "$response.body#/id")])
            .leads_to("createComment", &[("id", "$response.body#/id")])
            .leads_to("listComments", &[("id", "$response.body#/id")]),
        operation!("posts-list", "GET", "/posts", endpoints::list)
            .named("listPosts", "List posts")
            .about("Newest first.")
            .query::<Uuid>("author", "Only those by this user.", json!(author))
            .paginated()
            .answers::<Page<Post>>(200, "A page of posts.", json!({"items": [post.clone()], "next_cursor": null})),
        operation!("posts-get", "GET", "/posts/{id}", endpoints::get)
            .named("getPost", "Get a post")
            .about("With its whole text and its author's name.")
            .path::<Uuid>("id", "The post.", id)
            .answers::<Post>(200, "The post.", post)
            .with_headers(&[Header::ETag]),
        operation!("posts-author", "GET", "/posts/{id}/author", endpoints::author)
            .named("getPostAuthor", "Get a post's author")
            .about("The author's current profile, from the users service. The name in a post itself can be a moment old.")
            .path::<Uuid>("id", "The post.", id)
            .answers::<AuthorProfile>(
                200,
                "The author.",
                json!({"id": author, "name": "Ara", "created_at": "2026-05-04T09:30:00.123456Z", "version": 1}),
            ),
        operation!("posts-update", "PATCH", "/posts/{id}", endpoints::update)
            .named("updatePost", "Change a post")
            .about("Allowed for its author. Changes the title, the text or both.")
            .signed_in()
            .refuses(&[Kind::Forbidden, Kind::ProfileDeleted])
            .path::<Uuid>("id", "The post.", id)
            .requires_if_match()
            .takes::<Edit>(json!({"title": "Summer"}))
            .answers::<Post>(200, "The changed post.", edited)
            .with_headers(&[Header::ETag]),
        operation!("posts-delete", "DELETE", "/posts/{id}", endpoints::delete)
            .named("deletePost", "Delete a post")
            .about("Allowed for its author. Its comments are deleted a moment later.")
            .signed_in()
            .refuses(&[Kind::Forbidden, Kind::ProfileDeleted])
            .path::<Uuid>("id", "The post.", id)
            .accepts_if_match()
            .answers_empty(204, "The post was deleted."),
    ]
}
