//! Support for the tests of connection strings.

use uzima_testkit::official::Official;
use uzima_testkit::standin::{Play, StandIn};

use crate::cli::support::{Home, Ran, run};
use crate::mongodump::support::recorded;

/// Makes a backup with this engine, with the records on the same server.
pub fn backup(home: &Home, uri: &str, engine: &str) -> Ran {
    let mut command = home.to_dir(uri);
    run(command.env("BACKUP_ENGINE", engine).env("BACKUP_RECORDS", uri).args(["backup", "--json"]))
}

/// Makes a backup with a stand-in for mongodump, and asserts that the stand-in gets the connection string
/// `given`.
#[track_caller]
pub fn hands_over(uri: &str, given: &str) {
    let (home, mongodump) = (Home::new(), StandIn::create(&[Play::archive(recorded())]).expect("a stand-in"));
    let mut command = home.to_dir(uri);
    command.env("BACKUP_ENGINE", "mongodump").env("MONGODUMP_PATH", mongodump.program());
    run(command.arg("backup")).ends(0);
    let runs = mongodump.runs().expect("runs");
    assert!(runs.len() == 1 && runs[0].config_has("uri", given), "{given}: {runs:?}");
}

/// Makes a backup with the official mongodump, where it is installed.
#[track_caller]
pub fn official(test: &str, uri: &str) {
    let Some(tools) = Official::find(test) else { return };
    let home = Home::new();
    let mut command = home.to_dir(uri);
    command.env("BACKUP_ENGINE", "mongodump").env("MONGODUMP_PATH", &tools.mongodump);
    run(command.arg("backup")).ends(0);
}
