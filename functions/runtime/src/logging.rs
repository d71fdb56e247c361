//! Logs: one JSON object a line on standard output, which Lambda sends to CloudWatch Logs.
//!
//! A line has the level, the message, the function's name and the fields of the current span, the
//! request id among them. No bodies, tokens, names or addresses: ids say enough.
//!
//! | good | bad |
//! |---|---|
//! | `info!(post_id = %id, "created")` | `info!("created {post:?}")`: the post's text is in it |
//! | `error!(problem = "internal", cause = %error, "failed")` | `error!(?request, "failed")`: the token is in it |

use std::env;

use tracing::Span;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging at the level that `LOG_LEVEL` names: `info` where it names none.
pub fn start() {
    let level = env::var("LOG_LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false)
        .with_max_level(level)
        .finish();
    // Fails only where a subscriber has been set before, which then keeps its place.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// The span that every line of one invocation belongs to.
pub(crate) fn invocation(context: &lambda_runtime::Context) -> Span {
    tracing::info_span!(
        "invocation",
        function = context.env_config.function_name.as_str(),
        request_id = context.request_id.as_str(),
        trace = context.xray_trace_id.as_deref().unwrap_or_default(),
    )
}
