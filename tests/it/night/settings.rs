//! A run that fails on its settings mails every recipient that it can determine.

use super::support::{Nights, holds, server};
use crate::cli::support::{NOWHERE, run};
use crate::notify::support::KEY;

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_configuration_file_is_mailed() {
    let nights = Nights::new().await;
    let config = nights.home.path().join("config.toml");
    std::fs::write(&config, "mongo_uri = 'mongodb://db1'\nformat = \n").expect("a file");
    for operation in ["backup", "cleanup"] {
        let mut command = nights.home.tool();
        nights.mailing(&mut command);
        run(command.env("UZIMA_BACKUP_CONFIG", &config).arg(operation)).ends(2).says(&["line 2, column"]);
    }
    // The job is in the file, so it is not guessed.
    let subjects = nights.subjects().await;
    assert!(subjects[0].starts_with("backup failed: unknown job (2"), "{subjects:?}");
    assert_eq!(subjects[1..], ["cleanup failed: unknown job"]);
    holds(&nights.last().await, &["config.toml, line 2, column", "2\n"]);
    let mut quiet = nights.home.tool();
    nights.mailing(&mut quiet);
    quiet.env("UZIMA_BACKUP_CONFIG", &config);
    run(quiet.args(["backup", "--dry-run"])).ends(2);
    assert_eq!(nights.mails().await.len(), 2, "a dry run sends no mail");
}

/// A crontab sets an empty variable. The recipients are in the file.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_variable_is_mailed_to_the_recipients_of_the_file() {
    let nights = Nights::new().await;
    let config = nights.home.path().join("config.toml");
    let toml = format!(
        "job = 'nightly'\n[mail]\nresend_api_key = '{KEY}'\nto = ['ops@example.com']\nbase_url = '{}'\n",
        nights.service.uri()
    );
    std::fs::write(&config, toml).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&config, mode).expect("its mode");
    let mut command = nights.home.to_dir(NOWHERE);
    run(command.env("UZIMA_BACKUP_CONFIG", &config).env("S3_BACKUP_BUCKET", "").arg("backup"))
        .ends(2)
        .says(&["S3_BACKUP_BUCKET is set, but empty"]);
    assert!(nights.subjects().await[0].starts_with("backup failed: nightly (2"));
    holds(&nights.last().await, &["S3_BACKUP_BUCKET is set, but empty"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_file_that_cannot_be_opened_is_mailed() {
    let nights = Nights::new().await;
    let log = nights.home.path().join("not-there/log");
    run(nights.tool(NOWHERE).env("BACKUP_LOG_FILE", &log).arg("backup")).ends(2).says(&["cannot open"]);
    assert!(nights.subjects().await[0].starts_with("backup failed: nightly (2"));
    holds(&nights.last().await, &[log.to_str().expect("a path")]);
}

/// Nobody would hear of a failure, so nothing is started.
#[tokio::test(flavor = "multi_thread")]
async fn with_wrong_mail_settings_nothing_is_started() {
    let (server, nights) = (server().await, Nights::new().await);
    for (name, value, words) in [
        ("ADMIN_EMAILS", "ops", "'ops' is not a mail address"),
        ("BACKUP_NOTIFY", "succes", "'succes'"),
        ("RESEND_BASE_URL", "mail.example", "RESEND_BASE_URL"),
        ("EMAIL_FROM", "me", "EMAIL_FROM"),
    ] {
        for args in [&["backup"][..], &["cleanup"], &["stats", "--email"], &["health", "--email"]] {
            let ran = run(nights.tool(&server.uri()).env(name, value).args(args)).ends(2).says(&[words]);
            assert_eq!(ran.stdout, "", "{args:?}");
        }
    }
    let mut half = nights.home.to_dir(&server.uri());
    run(half.env("ADMIN_EMAILS", "ops@example.com").arg("backup"))
        .ends(2)
        .says(&["neither RESEND_API_KEY, SMTP_HOST nor SENDMAIL_PATH"]);
    assert_eq!(nights.home.files(), Vec::<String>::new());
    assert_eq!(nights.mails().await.len(), 0);
}
