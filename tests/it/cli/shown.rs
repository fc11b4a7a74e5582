//! The derived values that `config` shows, and the checks that it makes.

use serde_json::{Value, json};

use super::support::{Home, bare, run};

/// `config` shows all settings, and then reports every mistake in them.
#[test]
fn config_shows_all_settings_and_reports_their_mistakes() {
    let home = Home::new();
    let ran = run(home.tool().arg("config")).ends(2).says(&["S3_BACKUP_BUCKET"]);
    assert!(ran.stdout.contains("retention_days = 30 days  (default)"), "{}", ran.stdout);
    let mut tool = bare();
    tool.env("HOME", home.path()).env("MONGO_URI", "mongodb://db1/shop").env("BACKUP_DIR", "/x");
    let found = run(tool.env("STATE_DIRECTORY", "/run/state").arg("config")).ends(0).stdout;
    assert!(found.contains("job = shop@db1  (not set; BACKUP_JOB: "), "{found}");
    assert!(found.contains("state_dir = /run/state  (not set; UZIMA_BACKUP_STATE_DIR: "), "{found}");
    let found = run(tool.args(["--json"])).ends(0).json();
    assert_eq!((&found["job"], &found["state_dir"]), (&json!("shop@db1"), &json!("/run/state")));
    let wrong = run(tool.env("BACKUP_RETENTION_DAYS", "30d").arg("-q")).ends(2);
    wrong.says(&[
        "retention_days = '30d' (environment, BACKUP_RETENTION_DAYS): it is a whole number, at least 1",
        "no `cleanup`",
    ]);
    // All mistakes are reported at once.
    let several = run(tool.env("S3_BACKUP_BUCKET", "b").env("METRICS_FILE", "m.prom")).ends(2);
    several.says(&[
        "retention_days = '30d'",
        "; both a bucket",
        "; metrics_file = 'm.prom'",
        ". Set one of them",
    ]);
    let wrong =
        run(home.tool().env("BACKUP_DIR", "/x").env("BACKUP_FORMAT", "zip").args(["config", "--json"]));
    let wrong = wrong.ends(2).says(&["BACKUP_FORMAT"]);
    assert_eq!(wrong.json()["engine"], Value::Null);
}
