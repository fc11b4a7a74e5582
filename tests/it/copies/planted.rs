//! A first place with copies. Every place has fake backups, which are written straight into it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, SECRET_KEY};

use crate::cleanup::support::Place;
use crate::cli::support::{Ran, run};

/// A copy and its own settings, lines of its table.
pub struct CopyPlace {
    pub name: &'static str,
    pub place: Place,
    pub settings: &'static str,
}

/// A first place and its copies.
pub struct Places {
    pub first: Place,
    pub copies: Vec<CopyPlace>,
}

impl CopyPlace {
    /// A directory.
    pub fn dir(name: &'static str, settings: &'static str) -> CopyPlace {
        CopyPlace { name, place: Place::dir(), settings }
    }

    /// A bucket.
    pub fn s3(name: &'static str, settings: &'static str) -> CopyPlace {
        CopyPlace { name, place: Place::s3(), settings }
    }

    /// The table of the configuration file.
    fn table(&self) -> String {
        let place = match &self.place.bucket {
            None => format!("dir = \"{}\"\nmin_free = 0\n", self.place.home.backups().display()),
            Some(bucket) => format!(
                "bucket = \"{BUCKET}\"\nregion = \"us-east-1\"\nendpoint_url = \"{}\"\naccess_key_id = \"{ACCESS_KEY}\"\n\
                 secret_access_key = \"{SECRET_KEY}\"\n",
                bucket.endpoint()
            ),
        };
        format!("[[copies]]\nname = \"{}\"\n{place}{}\n", self.name, self.settings)
    }
}

impl Places {
    pub fn new(copies: impl Into<Vec<CopyPlace>>) -> Places {
        Places { first: Place::dir(), copies: copies.into() }
    }

    /// A copy by its name.
    pub fn copy(&self, name: &str) -> &Place {
        &self.copies.iter().find(|copy| copy.name == name).expect("a copy").place
    }

    /// The tool with the settings of all places.
    pub fn command(&self) -> Command {
        let file = self.first.home.path().join("config.toml");
        let tables: Vec<String> = self.copies.iter().map(CopyPlace::table).collect();
        std::fs::write(&file, tables.join("\n")).expect("a file");
        // A file with a secret must be private.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        let mut command = self.first.command();
        command.env("UZIMA_BACKUP_CONFIG", file);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        run(self.command().args(args))
    }
}
