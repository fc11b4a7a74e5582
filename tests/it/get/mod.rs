//! `get`: documents of a backup without a restore.

mod documents;
mod oracle;
mod reading;
mod slice;

use std::process::Command;

use crate::cli::support::{Home, NOWHERE, Ran, run};

/// `get` on the folder of a home, without a server.
fn get(home: &Home, args: &[&str]) -> Command {
    let mut command = home.to_dir(NOWHERE);
    command.arg("get").args(args);
    command
}

/// The `_id`s of printed documents, which are whole numbers, from relaxed Extended JSON.
fn ids(ran: &Ran) -> Vec<i64> {
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["_id"].as_i64();
    ran.stdout.lines().map(|line| id(line).expect("a number")).collect()
}

fn ran(home: &Home, args: &[&str]) -> Ran {
    run(&mut get(home, args))
}
