//! Misspelt variables are reported in the log, by `config` and by `health`, and change nothing else.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use super::support::{Home, NOWHERE, run};

const FORMAT: &str = "the variable BACKUP_FORMT is set, which is not a setting: did you mean BACKUP_FORMAT?";

fn misspelt(home: &Home) -> Command {
    let mut command = home.to_dir(NOWHERE);
    command
        .env("BACKUP_FORMT", "tar.zst")
        .env("RESTORE_URL", "mongodb://u:hunter2@h")
        // A variable of Meteor, which has nothing to do with this tool.
        .env("MONGO_URL", "mongodb://u:hunter2@h")
        .env("BACKUP_OF", "others");
    command
}

#[test]
fn a_misspelt_variable_is_reported_once_and_is_no_error() {
    let home = Home::new();
    for args in [&["list"][..], &["backup"], &["health", "--only", "state"]] {
        let ran = run(misspelt(&home).args(args));
        assert_eq!(ran.stderr.matches(FORMAT).count(), 1, "{args:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains(" WARN ") && ran.stderr.contains("did you mean RESTORE_URI?"),
            "{}",
            ran.stderr
        );
        assert!(
            !ran.stderr.contains("BACKUP_OF")
                && !ran.stderr.contains("MONGO_URL")
                && !ran.stderr.contains("hunter2"),
            "{}",
            ran.stderr
        );
    }
    run(misspelt(&home).arg("list")).ends(0);
    let sound = run(home.to_dir(NOWHERE).arg("list")).ends(0);
    assert_eq!(sound.stderr, "");
}

#[test]
fn config_and_health_report_a_misspelt_variable() {
    let home = Home::new();
    let shown = run(misspelt(&home).arg("config")).ends(0).stdout;
    assert!(shown.contains(FORMAT) && shown.contains("format = tar.gz  (default)"), "{shown}");
    let found = run(misspelt(&home).args(["config", "--json"])).ends(0).json()["misspelt"].clone();
    let format = json!({"env": "BACKUP_FORMT", "near": "BACKUP_FORMAT"});
    assert_eq!(found, json!([format, {"env": "RESTORE_URL", "near": "RESTORE_URI"}]));
    let health = run(misspelt(&home).args(["health", "--only", "configuration"])).ends(0).stdout;
    assert!(health.contains(FORMAT), "{health}");
}

/// A secret's file that every user can read is reported in the same way.
#[test]
fn a_secret_that_every_user_may_read_is_reported_once_and_is_no_error() {
    let home = Home::new();
    let file = home.path().join("uri");
    std::fs::write(&file, NOWHERE).expect("a file");
    for open in [home.path(), &file] {
        std::fs::set_permissions(open, Permissions::from_mode(0o755)).expect("a mode");
    }
    let tool = |args: &[&str]| {
        let mut command = home.to_dir(NOWHERE);
        run(command.env_remove("MONGO_URI").env("MONGO_URI_FILE", &file).args(args)).ends(0)
    };
    let words = format!("every user can read {}, the secret that MONGO_URI_FILE names", file.display());
    let list = tool(&["list"]);
    assert!(list.stderr.matches(&words).count() == 1 && list.stderr.contains(" WARN "), "{}", list.stderr);
    let health = tool(&["health", "--only", "configuration"]).stdout;
    assert!(health.contains(&words), "{health}");
    std::fs::set_permissions(&file, Permissions::from_mode(0o440)).expect("a mode");
    assert_eq!(tool(&["list"]).stderr, "");
}
