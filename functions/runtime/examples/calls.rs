//! How long it takes to learn a user's name: from a copy in a table of one's own, by RPC, by HTTP. For
//! `make bench`. Three lines of milliseconds: the first call of this process, then all others.

#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::{
    env,
    time::{Duration, Instant},
};

use runtime::{
    Error,
    deadline::Deadline,
    table::Table,
    users::{
        UsersClient,
        user_copies::{self, UserCopy},
    },
};
use uuid::Uuid;

const CALLS: usize = 200;
const PLENTY: Duration = Duration::from_mins(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let id: Uuid = env::args().nth(1).ok_or("whose name?")?.parse()?;
    let (table, rpc, http) = (Table::connect().await?, UsersClient::rpc().await?, UsersClient::http().await?);
    let (mut by_copy, mut by_rpc, mut by_http) = (Vec::new(), Vec::new(), Vec::new());
    // In turns, so that what disturbs the machine disturbs all three.
    for _ in 0..CALLS {
        let start = Instant::now();
        table.get::<UserCopy>(user_copies::key(id)).await?.ok_or("no copy")?;
        by_copy.push(start.elapsed());
        for (client, times) in [(&rpc, &mut by_rpc), (&http, &mut by_http)] {
            let start = Instant::now();
            client.get(id, Deadline::after(PLENTY)).await?.ok_or("no such user")?;
            times.push(start.elapsed());
        }
    }
    for times in [by_copy, by_rpc, by_http] {
        let milliseconds: Vec<String> =
            times.iter().map(|time| format!("{:.3}", time.as_secs_f64() * 1e3)).collect();
        println!("{}", milliseconds.join(" "));
    }
    Ok(())
}
