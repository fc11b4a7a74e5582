//! Two backups in one folder.

use std::process::Command;

use uzima_backup::model::manifest::Manifest;

use crate::cli::support::{Home, NOWHERE, Ran, run};

/// Makes a backup of the whole server. Returns its manifest.
pub fn back_up(home: &Home, uri: &str) -> Manifest {
    run(home.to_dir(uri).args(["backup", "--format", "tar.zst"])).ends(0);
    home.manifests().pop().expect("a manifest")
}

/// `diff` of two backups. It needs no server.
pub fn diff(home: &Home, ids: [&str; 2], args: &[&str]) -> Command {
    let mut command = home.to_dir(NOWHERE);
    command.arg("diff").args(ids).args(args);
    command
}

/// Runs [`diff`] with `--json`.
pub fn diffed(home: &Home, from: &Manifest, to: &Manifest, args: &[&str]) -> Ran {
    run(diff(home, [from.id.as_str(), to.id.as_str()], args).arg("--json"))
}

/// The differences of a namespace in the JSON of a report.
pub fn of<'a>(report: &'a serde_json::Value, namespace: &str) -> &'a serde_json::Value {
    let rows = report["namespaces"].as_array().expect("namespaces");
    rows.iter().find(|row| row["namespace"] == namespace).unwrap_or_else(|| panic!("{namespace}: {report:#}"))
}
