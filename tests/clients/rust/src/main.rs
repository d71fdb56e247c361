//! An example of a client of the API in Rust: it signs in, posts, comments and orders. `progenitor` generates the client from
//! infra/openapi-3.0.json when this program is compiled, so the compiler checks every path, field and answer below.
//!
//! Usage: client <address of the API> <address of Cognito> <id of the client> <e-mail> <password> <SKU>

use std::{env, error::Error, time::Duration};

use progenitor_client::{Error as Failure, ResponseValue};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::generated::{
    Client,
    types::{
        Item, NewOrder, NewPost, OrderStatus, OrderTotal, PaymentStatus, PostEditTitle, ProblemType, Refusal,
    },
};

/// What progenitor generates.
#[allow(clippy::all, clippy::pedantic, reason = "generated code")]
mod generated {
    progenitor::generate_api!(
        spec = "../../../infra/openapi-3.0.json",
        interface = Builder,
        derives = [PartialEq],
    );
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [api, cognito, client, email, password, sku] = arguments.as_slice() else {
        return Err("six arguments, as the first lines of main.rs say".into());
    };
    let madang = Client::new_with_client(api, signed_in(cognito, client, email, password).await?);

    let ara = madang.register_user().idempotency_key(key()).body_map(|body| body.name("Ara")).send().await?;
    assert_eq!(ara.email.as_ref(), Some(email));

    // The same key in every retry makes the request idempotent.
    let key_of_the_post = key();
    let draft = || NewPost::builder().title("Spring").body("It rains.");
    let post = madang.create_post().idempotency_key(&*key_of_the_post).body(draft()).send().await?;
    let repeated = madang.create_post().idempotency_key(&*key_of_the_post).body(draft()).send().await?;
    assert_eq!(*repeated, *post, "a repeated request must not create a second post");

    let comment = eventually("the post can be commented on", async || {
        let request = madang.create_comment().id(post.id).idempotency_key(key());
        // 404 until comments has processed the event `post.created`.
        unless_missing(request.body_map(|body| body.body("So do I.")).send().await)
    })
    .await?;
    let comments = madang.list_comments().id(post.id).limit(5).send().await?;
    assert_eq!(comments.items, [comment.into_inner()]);

    let tag = post.headers()[ETAG].to_str()?;
    let title: PostEditTitle = "Summer".try_into()?;
    let change =
        || madang.update_post().id(post.id).if_match(tag).body_map(|body| body.title(Some(title.clone())));
    assert_eq!(change().send().await?.title.as_str(), "Summer");
    let Err(Failure::ErrorResponse(stale)) = change().send().await else {
        return Err("a change of an old version must be refused".into());
    };
    let Refusal::Problem(problem) = &*stale else {
        return Err(format!("{stale:?} is not a function's problem document").into());
    };
    assert_eq!(problem.type_, ProblemType::UrnMadangProblemStaleVersion);

    let item: Item = Item::builder().sku(sku.as_str()).quantity(2).try_into()?;
    let order = NewOrder::builder().items([item]).payment_method("pm_card_visa");
    let placed = madang.place_order().idempotency_key(key()).body(order).send().await?;
    let order = eventually("the order is settled", async || {
        let order = madang.get_order().id(placed.id).send().await?;
        Ok((order.status != OrderStatus::Pending).then(|| order.into_inner()))
    })
    .await?;
    assert_eq!(order.status, OrderStatus::Confirmed);
    let payment = eventually("the money is taken", async || {
        // 404 until the payment exists.
        let payment = unless_missing(madang.get_payment().id(placed.id).send().await)?;
        Ok(payment.filter(|payment| payment.status == PaymentStatus::Captured))
    })
    .await?;
    assert_eq!(order.total, OrderTotal::from(payment.into_inner().amount));

    println!("Signed in, posted, commented and ordered: order {}", placed.id);
    Ok(())
}

/// An HTTP client that sends the access token of a user with each request.
async fn signed_in(cognito: &str, client: &str, email: &str, password: &str) -> Result<reqwest::Client> {
    let wanted = json!({
        "AuthFlow": "USER_PASSWORD_AUTH",
        "ClientId": client,
        "AuthParameters": {"USERNAME": email, "PASSWORD": password},
    });
    let request = reqwest::Client::new()
        .post(cognito)
        .header(CONTENT_TYPE, "application/x-amz-json-1.1")
        .header("x-amz-target", "AWSCognitoIdentityProviderService.InitiateAuth")
        .body(wanted.to_string());
    let answer: Value = request.send().await?.error_for_status()?.json().await?;
    let token = answer["AuthenticationResult"]["AccessToken"].as_str().ok_or("Cognito answers no token")?;
    let authorization =
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}"))?)]);
    Ok(reqwest::Client::builder().default_headers(authorization).timeout(Duration::from_secs(30)).build()?)
}

/// A new idempotency key.
fn key() -> String {
    Uuid::new_v4().to_string()
}

/// The answer, or `None` for 404.
fn unless_missing<T>(
    answer: std::result::Result<ResponseValue<T>, Failure<Refusal>>,
) -> Result<Option<ResponseValue<T>>> {
    match answer {
        Err(Failure::ErrorResponse(refusal)) if refusal.status() == 404 => Ok(None),
        answer => Ok(Some(answer?)),
    }
}

/// Waits for the effect of an event, and returns the probe's result.
async fn eventually<T>(what: &str, probe: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(found) = probe().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("expected within a minute: {what}").into());
        }
        sleep(Duration::from_millis(200)).await;
    }
}
