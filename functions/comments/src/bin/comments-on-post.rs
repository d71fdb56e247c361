//! Consumes `post.created`, `post.updated` and `post.deleted`.

use std::process::ExitCode;

use comments::{consumers, store::Comments};
use runtime::serve::queue;

fn main() -> ExitCode {
    runtime::run(async || queue::serve(Comments::connect().await?, consumers::on_post).await)
}
