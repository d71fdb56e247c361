//! Logs: one JSON object per line on standard output, which Lambda sends to CloudWatch Logs.
//!
//! A line has `timestamp`, `level`, `message`, `function`, `request_id` and `trace_id`, what is being worked on (`name`: an
//! `invocation` or one `event` of it, then with the event's fields), and its own fields. No bodies, tokens, names or addresses: log
//! ids instead.
//!
//! | good | bad |
//! |---|---|
//! | `info!(post_id = %id, "created")` | `info!("created {post:?}")`: the post's text is in it |
//! | `error!(problem = "internal", cause = %error, "failed")` | `error!(?request, "failed")`: the token is in it |

use std::{env, panic};

use json_subscriber::JsonLayer;
use tracing::Subscriber;
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    registry::LookupSpan,
};

use super::LOGGED;

/// The crates whose lines are written at every level that `LOG_LEVEL` asks for. Libraries write only warnings and errors,
/// because finer lines of the AWS SDK contain requests and answers, and so personal data.
const OURS: [&str; 11] = [
    "comments",
    "inventory",
    "kernel",
    "notifications",
    "orders",
    "payments",
    "posts",
    "registry",
    "relay",
    "runtime",
    "users",
];

/// Writes a line for a panic, without its message, which could quote data.
pub(super) fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
}

/// Writes lines at the level of `LOG_LEVEL`, or at `info` without one.
pub(super) fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let level = env::var("LOG_LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let mut lines = JsonLayer::stdout();
    lines.with_timer("timestamp", tracing_subscriber::fmt::time::SystemTime);
    lines.with_level("level");
    lines.with_flattened_event();
    lines.with_top_level_flattened_span_list();
    let libraries = level.min(LevelFilter::WARN);
    let targets = Targets::new()
        .with_default(libraries)
        .with_target(LOGGED, LevelFilter::INFO)
        // It would log each error that a handler returns to Lambda, a saga's refusals included, a second time.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
        .with_targets(OURS.map(|target| (target, level)));
    let spans = filter_fn(|metadata| !metadata.is_span() || metadata.target() == LOGGED);
    lines.with_filter(targets.and(spans))
}
