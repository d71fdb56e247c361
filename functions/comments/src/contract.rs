//! The contract of the endpoints, for `infra/openapi.json`.

use kernel::{
    contract::{Header, Operation, json},
    operation,
    page::Page,
    problem::Kind,
};
use schemars::JsonSchema;
use uuid::Uuid;

use crate::{
    comment::{Body, Comment},
    endpoints,
};

/// The body for creating and for changing a comment.
#[derive(JsonSchema)]
#[schemars(rename = "CommentText")]
#[expect(dead_code, reason = "only its schema is used")]
struct CommentText {
    /// The text.
    body: Body,
}

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let (post, id) = ("0190a6c5-1c44-7d27-8f0c-1e8a4b105f0c", "0190a6c6-44c1-727d-9f0c-5f0c1e8a4b10");
    let comment = json!({
        "id": id, "post_id": post, "author": {"id": "0190a6c4-b7d1-752e-8c3f-4b102f0c1e8a", "name": "Bada"},
        "body": "So do I.", "created_at": "2026-05-04T09:31:00.123456Z",
        "updated_at": "2026-05-04T09:31:00.123456Z", "version": 1,
    });
    let mut edited = comment.clone();
    (edited["body"], edited["version"]) = (json!("Not I."), json!(2));
    edited["updated_at"] = json!("2026-05-04T10:00:00.654321Z");
    vec![
        operation!("comments-create", "POST", "/posts/{id}/comments", endpoints::create)
            .named("createComment", "Comment on a post")
            .about(
                "A new post can be unknown to comments for about a second; until then the answer is 404. One person may write \
                 120 comments an hour, unless the operator has set another limit.",
            )
            .with_profile()
            .creates()
            .limited_per_person()
            .refuses(&[Kind::Conflict])
            .path::<Uuid>("id", "The post.", post)
            .takes::<CommentText>(json!({"body": "So do I."}))
            .answers::<Comment>(201, "The comment.", comment.clone())
            .with_headers(&[Header::ETag, Header::Location("comments/0190a6c6-44c1-727d-9f0c-5f0c1e8a4b10")])
            .leads_to(
                "updateComment",
                &[
                    ("id", "$response.body#/post_id"),
                    ("comment_id", "$response.body#/id"),
                    ("If-Match", "$response.header.ETag"),
                ],
            )
            .leads_to(
                "deleteComment",
                &[("id", "$response.body#/post_id"), ("comment_id", "$response.body#/id")],
            ),
        operation!("comments-list", "GET", "/posts/{id}/comments", endpoints::list)
            .named("listComments", "List the comments on a post")
            .about("Oldest first.")
            .path::<Uuid>("id", "The post.", post)
            .paginated()
            .answers::<Page<Comment>>(
                200,
                "A page of comments.",
                json!({"items": [comment.clone()], "next_cursor": null}),
            ),
        operation!("comments-get", "GET", "/posts/{id}/comments/{comment_id}", endpoints::get)
            .named("getComment", "Get a comment")
            .about("With its author's name.")
            .path::<Uuid>("id", "The post.", post)
            .path::<Uuid>("comment_id", "The comment.", id)
            .answers::<Comment>(200, "The comment.", comment)
            .with_headers(&[Header::ETag]),
        operation!("comments-update", "PATCH", "/posts/{id}/comments/{comment_id}", endpoints::update)
            .named("updateComment", "Change a comment")
            .about("Allowed for its author.")
            .signed_in()
            .refuses(&[Kind::Forbidden, Kind::ProfileDeleted])
            .path::<Uuid>("id", "The post.", post)
            .path::<Uuid>("comment_id", "The comment.", id)
            .requires_if_match()
            .takes::<CommentText>(json!({"body": "Not I."}))
            .answers::<Comment>(200, "The changed comment.", edited)
            .with_headers(&[Header::ETag]),
        operation!("comments-delete", "DELETE", "/posts/{id}/comments/{comment_id}", endpoints::delete)
            .named("deleteComment", "Delete a comment")
            .about("Allowed for its author and for the author of the post.")
            .signed_in()
            .refuses(&[Kind::Forbidden, Kind::ProfileDeleted])
            .path::<Uuid>("id", "The post.", post)
            .path::<Uuid>("comment_id", "The comment.", id)
            .accepts_if_match()
            .answers_empty(204, "The comment was deleted."),
    ]
}
