//! The contract of the endpoints, for `infra/openapi.json`.

use kernel::{
    contract::{Header, Operation, json},
    operation,
    problem::Kind,
};
use runtime::users::User;
use schemars::JsonSchema;
use uuid::Uuid;

use crate::{
    endpoints::{self, UserView},
    profile::Name,
};

/// The body for registering and for renaming.
#[derive(JsonSchema)]
#[schemars(rename = "ProfileName")]
#[expect(dead_code, reason = "only its schema is used")]
struct ProfileName {
    /// The display name.
    name: Name,
}

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let id = "0190a6c4-7d1e-7b52-9c3f-2f0c1e8a4b10";
    let user = json!({
        "id": id, "name": "Ara", "email": "ara@example.com", "created_at": "2026-05-04T09:30:00.123456Z", "version": 1,
    });
    let mut renamed = user.clone();
    (renamed["name"], renamed["version"]) = (json!("Ara Kim"), json!(2));
    let mut seen_by_others = user.clone();
    seen_by_others.as_object_mut().map(|fields| fields.remove("email"));
    vec![
        operation!("users-register", "POST", "/users", endpoints::register)
            .named("registerUser", "Create the caller's profile")
            .about(
                "Creates the caller's profile. Its id is the token's `sub`, its e-mail address the verified one in the \
                 user pool. A repeat returns the existing profile.",
            )
            .signed_in()
            .refuses(&[Kind::Forbidden, Kind::ProfileDeleted])
            .creates_once_per_caller(
                "There is one profile per user, so a repeat creates nothing, with or without a key.",
            )
            .takes::<ProfileName>(json!({"name": "Ara"}))
            .answers::<UserView>(201, "The profile was created.", user.clone())
            .with_headers(&[Header::ETag, Header::Location("users/0190a6c4-7d1e-7b52-9c3f-2f0c1e8a4b10")])
            .leads_to("getUser", &[("id", "$response.body#/id")])
            .answers::<UserView>(200, "The profile existed already.", user.clone())
            .with_headers(&[Header::ETag]),
        operation!("users-get", "GET", "/users/me", endpoints::get_own)
            .named("getOwnUser", "Get the caller's profile")
            .about("With the e-mail address.")
            .with_profile()
            .answers::<UserView>(200, "The profile.", user)
            .with_headers(&[Header::ETag]),
        operation!("users-get", "GET", "/users/{id}", endpoints::get)
            .named("getUser", "Get a profile")
            .about("The e-mail address is shown to its owner only.")
            .signed_in()
            .path::<Uuid>("id", "The user.", id)
            .answers::<UserView>(200, "The profile.", seen_by_others)
            .with_headers(&[Header::ETag]),
        operation!("users-update", "PATCH", "/users/me", endpoints::update)
            .named("renameUser", "Change the caller's name")
            .about("The new name appears a moment later on the posts and comments that the caller has written.")
            .with_profile()
            .requires_if_match()
            .takes::<ProfileName>(json!({"name": "Ara Kim"}))
            .answers::<UserView>(200, "The changed profile.", renamed)
            .with_headers(&[Header::ETag]),
        operation!("users-delete", "DELETE", "/users/me", endpoints::delete)
            .named("deleteUser", "Delete the caller's profile")
            .about("The profile is deleted immediately; posts, comments, notifications and the login are deleted a moment later.")
            .with_profile()
            .refuses(&[Kind::Conflict])
            .answers_empty(202, "The profile was deleted."),
        operation!("users-lookup", "GET", "/internal/users/{id}", endpoints::lookup)
            .named("lookUpUser", "Get a profile, for other services")
            .about("With the e-mail address, whoever the user is.")
            .for_principals()
            .path::<Uuid>("id", "The user.", id)
            .answers::<User>(
                200,
                "The user, with the e-mail address.",
                json!({
                    "id": id, "name": "Ara", "email": "ara@example.com",
                    "created_at": "2026-05-04T09:30:00.123456Z", "version": 1,
                }),
            ),
    ]
}
