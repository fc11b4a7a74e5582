//! The official tools, for differential tests: they are on no package registry, so a test that needs them runs
//! where they are on PATH, and elsewhere says by name that it did not.

use std::path::PathBuf;

use crate::mongod::binary::on_path;

/// Where the official tools lie.
#[derive(Clone, Debug)]
pub struct Official {
    pub mongodump: PathBuf,
    pub mongorestore: PathBuf,
}

impl Official {
    /// The tools, or a line on stderr that this test is skipped.
    pub fn find(test: &str) -> Option<Official> {
        let found = on_path("mongodump").zip(on_path("mongorestore"));
        if found.is_none() {
            eprintln!("SKIPPED {test}: mongodump and mongorestore are not on PATH");
        }
        found.map(|(mongodump, mongorestore)| Official { mongodump, mongorestore })
    }
}
