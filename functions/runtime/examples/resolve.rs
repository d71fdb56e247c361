//! How long it takes to find a service whose place is known already, in nanoseconds: for `make bench`, which
//! counts the questions that reach Cloud Map meanwhile.

#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::{hint::black_box, time::Instant};

use runtime::{Error, services::directory};

const ROUNDS: usize = 101;
const CALLS: u32 = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let directory = directory::connect().await?;
    directory.resolve("users").await?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(directory.resolve(black_box("users")).await?);
        }
        rounds.push(start.elapsed() / CALLS);
    }
    rounds.sort_unstable();
    println!("{}", rounds[ROUNDS / 2].as_nanos());
    Ok(())
}
