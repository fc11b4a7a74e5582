//! The official tools, for differential tests. No package registry has them, so a test that needs them runs only if
//! they are on PATH. Otherwise it prints its name and that it was skipped.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::mongod::binary::on_path;

/// The paths of the official tools.
#[derive(Clone, Debug)]
pub struct Official {
    pub mongodump: PathBuf,
    pub mongorestore: PathBuf,
}

impl Official {
    /// Finds the tools. If they are missing, prints that the test is skipped.
    pub fn find(test: &str) -> Option<Official> {
        let found = on_path("mongodump").zip(on_path("mongorestore"));
        if found.is_none() {
            // Unlike `eprintln`, this is also shown if the test passes.
            let _ = writeln!(io::stderr(), "SKIPPED {test}: mongodump and mongorestore are not on PATH");
        }
        found.map(|(mongodump, mongorestore)| Official { mongodump, mongorestore })
    }
}
