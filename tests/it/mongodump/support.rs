//! A small server, and the tool with a stand-in for mongodump.

use std::process::Command;

use uzima_testkit::mongod::Mongod;
use uzima_testkit::standin::{Play, StandIn, fixture};

use crate::cli::support::Home;

/// The recorded dump of the official tool.
pub fn recorded() -> Vec<u8> {
    fixture("full.archive.gz").expect("the recording")
}

/// A server with one collection, so that there is something to back up. The backup contains the recording.
pub async fn server() -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("orders");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    server
}

pub fn standin(plays: &[Play]) -> StandIn {
    StandIn::create(plays).expect("a stand-in")
}

/// The tool, configured with the path of this stand-in.
pub fn tool(home: &Home, server: &Mongod, standin: &StandIn) -> Command {
    let mut command = home.to_dir(&server.uri());
    command.env("BACKUP_ENGINE", "mongodump").env("MONGODUMP_PATH", standin.program());
    command
}
