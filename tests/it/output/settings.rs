//! The output of the commands that need neither a server nor a backup: `config` and `notify`.

use insta::assert_snapshot;

use super::support::{all, compact, normalize};
use crate::cli::support::{Home, run};

#[test]
fn config_prints_every_setting_with_its_origin() {
    let home = Home::new();
    let config = |args: &[&str]| {
        let mut command = home.to_dir("mongodb://backup:hunter2@db1.example.com/?replicaSet=rs0");
        // A misspelt variable is reported.
        command.env("BACKUP_JOB", "nightly").env("BACKUP_FROMAT", "tar.zst");
        run(command.arg("config").args(args))
    };
    assert_snapshot!(normalize(&all(&config(&[])), &home), @"
        exit code 0
        --- stdout
        mongo_uri = mongodb://backup:***@db1.example.com/?replicaSet=rs0  (environment, MONGO_URI)
        restore_uri is not set  (RESTORE_URI: the server that `restore` writes into; else mongo_uri)
        drill_uri is not set  (DRILL_URI: the server for `verify --drill`; else a throw-away mongod)
        databases is not set  (BACKUP_DATABASES: only these databases)
        include is not set  (BACKUP_INCLUDE: only namespaces that match one of these patterns)
        exclude is not set  (BACKUP_EXCLUDE: no namespace that matches one of these patterns)
        job = nightly  (environment, BACKUP_JOB)
        engine = native  (environment, BACKUP_ENGINE)
        readers = 1  (environment, BACKUP_READERS)
        mongodump_path is not set  (MONGODUMP_PATH: the mongodump to use)
        mongod_path is not set  (MONGOD_PATH: the mongod that `verify --drill` starts)
        consistency = auto  (default)
        format = tar.gz  (default)
        compression_level is not set  (BACKUP_COMPRESSION_LEVEL: gzip 1 to 12, zstd 1 to 19, or auto: follows the line)
        check_compression = false  (default)
        recipients is not set  (BACKUP_RECIPIENTS: encrypt backups to these public keys of age or SSH)
        identity_file is not set  (BACKUP_IDENTITY_FILE: the secret key that decrypts backups)
        signing_key_file is not set  (BACKUP_SIGNING_KEY_FILE: the secret key that signs backups)
        trusted_keys is not set  (BACKUP_TRUSTED_KEYS: only backups signed by these public keys of minisign count)
        trusted_before is not set  (BACKUP_TRUSTED_BEFORE: unsigned backups from before this date count, too)
        stall_timeout = 600 seconds  (default)
        patience = 2 seconds  (environment, BACKUP_PATIENCE)
        dir = [HOME]/backups  (environment, BACKUP_DIR)
        min_free = 0 %  (environment, BACKUP_MIN_FREE)
        retention_days = 30 days  (default)
        keep_min = 3 backups  (default)
        keep_last is not set  (BACKUP_KEEP_LAST: newest good backups that stay)
        keep_daily is not set  (BACKUP_KEEP_DAILY: days whose newest good backup stays)
        keep_weekly is not set  (BACKUP_KEEP_WEEKLY: weeks whose newest good backup stays)
        keep_monthly is not set  (BACKUP_KEEP_MONTHLY: months whose newest good backup stays)
        keep_yearly is not set  (BACKUP_KEEP_YEARLY: years whose newest good backup stays)
        max_age = 30 hours  (default)
        drill_max_age is not set  (BACKUP_DRILL_MAX_AGE: days after which a drill is too old)
        keyed_max_age = 30 days  (default)
        oplog_days = 7 days  (default)
        oplog_max_age = 60 minutes  (default)
        catch_up = 120 minutes  (default)
        copy_memory = 256 MiB  (default)
        records = off  (environment, BACKUP_RECORDS)
        state_dir = [HOME]/state  (environment, UZIMA_BACKUP_STATE_DIR)
        log_file is not set  (BACKUP_LOG_FILE: the log goes to this file as well)
        notify is not set  (BACKUP_NOTIFY: the events to mail and to send to the webhook; else all)
        ping_url is not set  (PING_URL: a monitor, such as healthchecks.io, that every backup pings)
        oplog_ping_url is not set  (OPLOG_PING_URL: a monitor that every run of `oplog` pings when it ends)
        metrics_file is not set  (METRICS_FILE: metrics for node_exporter's textfile collector)
        webhook_url is not set  (WEBHOOK_URL: receives a JSON message about every run)
        webhook_format = json  (default)
        hooks.before_backup is not set  (BACKUP_BEFORE_HOOK: a program that runs before a backup, and its arguments)
        hooks.after_backup is not set  (BACKUP_AFTER_HOOK: a program that runs after a backup, and its arguments)
        hooks.timeout = 600 seconds  (default)
        hooks.shell = false  (default)
        mail.by is not set  (MAIL_BY: resend, smtp or sendmail; else the one that has settings)
        mail.resend_api_key is not set  (RESEND_API_KEY: the key of resend.com, which sends the mails)
        mail.to is not set  (ADMIN_EMAILS: the recipients of mails)
        mail.from is not set  (EMAIL_FROM: the sender; else uzima-backup@ the first recipient's domain)
        mail.dead_man = false  (default)
        mail.base_url = https://api.resend.com  (default)
        mail.smtp_host is not set  (SMTP_HOST: the mail server)
        mail.smtp_port is not set  (SMTP_PORT: its port; else 587 (starttls), 465 (tls) or 25 (none))
        mail.smtp_security is not set  (SMTP_SECURITY: starttls, tls or none; else tls on port 465, or starttls)
        mail.smtp_user is not set  (SMTP_USER: the login at the mail server; else none)
        mail.smtp_password is not set  (SMTP_PASSWORD: the password at the mail server)
        mail.smtp_ca_file is not set  (SMTP_CA_FILE: the mail server's CA certificates; else this machine's)
        mail.sendmail_path = /usr/sbin/sendmail  (default)
        s3.bucket is not set  (S3_BACKUP_BUCKET: back up to this bucket)
        s3.prefix = daily-backups/  (default)
        s3.region is not set  (AWS_REGION: the bucket's region)
        s3.endpoint_url is not set  (S3_ENDPOINT_URL: an S3-compatible service)
        s3.force_path_style is not set  (S3_FORCE_PATH_STYLE: bucket in the path; on with an endpoint)
        s3.access_key_id is not set  (AWS_ACCESS_KEY_ID: else the AWS default chain)
        s3.secret_access_key is not set  (AWS_SECRET_ACCESS_KEY: else the AWS default chain)
        s3.session_token is not set  (AWS_SESSION_TOKEN: the token of temporary keys)
        s3.ca_bundle is not set  (AWS_CA_BUNDLE: CA certificates; else SSL_CERT_FILE or the machine's)
        s3.storage_class is not set  (S3_STORAGE_CLASS: the artifacts' storage class, e.g. STANDARD_IA)
        s3.sse is not set  (S3_SSE: server-side encryption: AES256 or aws:kms)
        s3.sse_kms_key_id is not set  (S3_SSE_KMS_KEY_ID: the KMS key; else the account's default key)
        s3.versioned = false  (default)
        s3.object_lock_days is not set  (S3_OBJECT_LOCK_DAYS: days for which backups are locked)
        s3.checksum = crc64nvme  (default)
        s3.upload_concurrency = 4 parts  (default)
        s3.bandwidth is not set  (S3_BANDWIDTH: the most bytes sent per second: 500000, 2 MB or 4 MiB)
        the variable BACKUP_FROMAT is set, which is not a setting: did you mean BACKUP_FORMAT?
        a backup would read with the native engine: engine = native
        --- stderr
        0000-00-00T00:00:00Z WARN  the variable BACKUP_FROMAT is set, which is not a setting: did you mean BACKUP_FORMAT?
    ");
    assert_snapshot!(normalize(&compact(&config(&["--json"]).json()), &home), @r#"
        {
          "version": 1,
          "settings": [
            {
              "key": "mongo_uri",
              "env": "MONGO_URI",
              "value": "mongodb://backup:***@db1.example.com/?replicaSet=rs0",
              "origin": "environment, MONGO_URI"
            },
            {"key": "restore_uri", "env": "RESTORE_URI", "value": null, "origin": null},
            {"key": "drill_uri", "env": "DRILL_URI", "value": null, "origin": null},
            {"key": "databases", "env": "BACKUP_DATABASES", "value": null, "origin": null},
            {"key": "include", "env": "BACKUP_INCLUDE", "value": null, "origin": null},
            {"key": "exclude", "env": "BACKUP_EXCLUDE", "value": null, "origin": null},
            {"key": "job", "env": "BACKUP_JOB", "value": "nightly", "origin": "environment, BACKUP_JOB"},
            {"key": "engine", "env": "BACKUP_ENGINE", "value": "native", "origin": "environment, BACKUP_ENGINE"},
            {"key": "readers", "env": "BACKUP_READERS", "value": "1", "origin": "environment, BACKUP_READERS"},
            {"key": "mongodump_path", "env": "MONGODUMP_PATH", "value": null, "origin": null},
            {"key": "mongod_path", "env": "MONGOD_PATH", "value": null, "origin": null},
            {"key": "consistency", "env": "BACKUP_CONSISTENCY", "value": "auto", "origin": "default"},
            {"key": "format", "env": "BACKUP_FORMAT", "value": "tar.gz", "origin": "default"},
            {"key": "compression_level", "env": "BACKUP_COMPRESSION_LEVEL", "value": null, "origin": null},
            {"key": "check_compression", "env": "BACKUP_CHECK_COMPRESSION", "value": "false", "origin": "default"},
            {"key": "recipients", "env": "BACKUP_RECIPIENTS", "value": null, "origin": null},
            {"key": "identity_file", "env": "BACKUP_IDENTITY_FILE", "value": null, "origin": null},
            {"key": "signing_key_file", "env": "BACKUP_SIGNING_KEY_FILE", "value": null, "origin": null},
            {"key": "trusted_keys", "env": "BACKUP_TRUSTED_KEYS", "value": null, "origin": null},
            {"key": "trusted_before", "env": "BACKUP_TRUSTED_BEFORE", "value": null, "origin": null},
            {"key": "stall_timeout", "env": "BACKUP_STALL_TIMEOUT", "value": "600", "origin": "default"},
            {"key": "patience", "env": "BACKUP_PATIENCE", "value": "2", "origin": "environment, BACKUP_PATIENCE"},
            {
              "key": "dir",
              "env": "BACKUP_DIR",
              "value": "[HOME]/backups",
              "origin": "environment, BACKUP_DIR"
            },
            {"key": "min_free", "env": "BACKUP_MIN_FREE", "value": "0", "origin": "environment, BACKUP_MIN_FREE"},
            {"key": "retention_days", "env": "BACKUP_RETENTION_DAYS", "value": "30", "origin": "default"},
            {"key": "keep_min", "env": "BACKUP_KEEP_MIN", "value": "3", "origin": "default"},
            {"key": "keep_last", "env": "BACKUP_KEEP_LAST", "value": null, "origin": null},
            {"key": "keep_daily", "env": "BACKUP_KEEP_DAILY", "value": null, "origin": null},
            {"key": "keep_weekly", "env": "BACKUP_KEEP_WEEKLY", "value": null, "origin": null},
            {"key": "keep_monthly", "env": "BACKUP_KEEP_MONTHLY", "value": null, "origin": null},
            {"key": "keep_yearly", "env": "BACKUP_KEEP_YEARLY", "value": null, "origin": null},
            {"key": "max_age", "env": "BACKUP_MAX_AGE", "value": "30", "origin": "default"},
            {"key": "drill_max_age", "env": "BACKUP_DRILL_MAX_AGE", "value": null, "origin": null},
            {"key": "keyed_max_age", "env": "BACKUP_KEYED_MAX_AGE", "value": "30", "origin": "default"},
            {"key": "oplog_days", "env": "BACKUP_OPLOG_DAYS", "value": "7", "origin": "default"},
            {"key": "oplog_max_age", "env": "BACKUP_OPLOG_MAX_AGE", "value": "60", "origin": "default"},
            {"key": "catch_up", "env": "BACKUP_CATCH_UP", "value": "120", "origin": "default"},
            {"key": "copy_memory", "env": "BACKUP_COPY_MEMORY", "value": "256", "origin": "default"},
            {"key": "records", "env": "BACKUP_RECORDS", "value": "off", "origin": "environment, BACKUP_RECORDS"},
            {
              "key": "state_dir",
              "env": "UZIMA_BACKUP_STATE_DIR",
              "value": "[HOME]/state",
              "origin": "environment, UZIMA_BACKUP_STATE_DIR"
            },
            {"key": "log_file", "env": "BACKUP_LOG_FILE", "value": null, "origin": null},
            {"key": "notify", "env": "BACKUP_NOTIFY", "value": null, "origin": null},
            {"key": "ping_url", "env": "PING_URL", "value": null, "origin": null},
            {"key": "oplog_ping_url", "env": "OPLOG_PING_URL", "value": null, "origin": null},
            {"key": "metrics_file", "env": "METRICS_FILE", "value": null, "origin": null},
            {"key": "webhook_url", "env": "WEBHOOK_URL", "value": null, "origin": null},
            {"key": "webhook_format", "env": "WEBHOOK_FORMAT", "value": "json", "origin": "default"},
            {"key": "hooks.before_backup", "env": "BACKUP_BEFORE_HOOK", "value": null, "origin": null},
            {"key": "hooks.after_backup", "env": "BACKUP_AFTER_HOOK", "value": null, "origin": null},
            {"key": "hooks.timeout", "env": "BACKUP_HOOK_TIMEOUT", "value": "600", "origin": "default"},
            {"key": "hooks.shell", "env": "BACKUP_HOOK_SHELL", "value": "false", "origin": "default"},
            {"key": "mail.by", "env": "MAIL_BY", "value": null, "origin": null},
            {"key": "mail.resend_api_key", "env": "RESEND_API_KEY", "value": null, "origin": null},
            {"key": "mail.to", "env": "ADMIN_EMAILS", "value": null, "origin": null},
            {"key": "mail.from", "env": "EMAIL_FROM", "value": null, "origin": null},
            {"key": "mail.dead_man", "env": "MAIL_DEAD_MAN", "value": "false", "origin": "default"},
            {"key": "mail.base_url", "env": "RESEND_BASE_URL", "value": "https://api.resend.com", "origin": "default"},
            {"key": "mail.smtp_host", "env": "SMTP_HOST", "value": null, "origin": null},
            {"key": "mail.smtp_port", "env": "SMTP_PORT", "value": null, "origin": null},
            {"key": "mail.smtp_security", "env": "SMTP_SECURITY", "value": null, "origin": null},
            {"key": "mail.smtp_user", "env": "SMTP_USER", "value": null, "origin": null},
            {"key": "mail.smtp_password", "env": "SMTP_PASSWORD", "value": null, "origin": null},
            {"key": "mail.smtp_ca_file", "env": "SMTP_CA_FILE", "value": null, "origin": null},
            {"key": "mail.sendmail_path", "env": "SENDMAIL_PATH", "value": "/usr/sbin/sendmail", "origin": "default"},
            {"key": "s3.bucket", "env": "S3_BACKUP_BUCKET", "value": null, "origin": null},
            {"key": "s3.prefix", "env": "S3_BACKUP_PREFIX", "value": "daily-backups/", "origin": "default"},
            {"key": "s3.region", "env": "AWS_REGION", "value": null, "origin": null},
            {"key": "s3.endpoint_url", "env": "S3_ENDPOINT_URL", "value": null, "origin": null},
            {"key": "s3.force_path_style", "env": "S3_FORCE_PATH_STYLE", "value": null, "origin": null},
            {"key": "s3.access_key_id", "env": "AWS_ACCESS_KEY_ID", "value": null, "origin": null},
            {"key": "s3.secret_access_key", "env": "AWS_SECRET_ACCESS_KEY", "value": null, "origin": null},
            {"key": "s3.session_token", "env": "AWS_SESSION_TOKEN", "value": null, "origin": null},
            {"key": "s3.ca_bundle", "env": "AWS_CA_BUNDLE", "value": null, "origin": null},
            {"key": "s3.storage_class", "env": "S3_STORAGE_CLASS", "value": null, "origin": null},
            {"key": "s3.sse", "env": "S3_SSE", "value": null, "origin": null},
            {"key": "s3.sse_kms_key_id", "env": "S3_SSE_KMS_KEY_ID", "value": null, "origin": null},
            {"key": "s3.versioned", "env": "S3_VERSIONED", "value": "false", "origin": "default"},
            {"key": "s3.object_lock_days", "env": "S3_OBJECT_LOCK_DAYS", "value": null, "origin": null},
            {"key": "s3.checksum", "env": "S3_CHECKSUM", "value": "crc64nvme", "origin": "default"},
            {"key": "s3.upload_concurrency", "env": "S3_UPLOAD_CONCURRENCY", "value": "4", "origin": "default"},
            {"key": "s3.bandwidth", "env": "S3_BANDWIDTH", "value": null, "origin": null}
          ],
          "copies": [],
          "job": "nightly",
          "state_dir": "[HOME]/state",
          "engine": {"name": "native", "why": "engine = native"},
          "misspelt": [
            {"env": "BACKUP_FROMAT", "near": "BACKUP_FORMAT"}
          ]
        }
    "#);
}

#[test]
fn notify_render_prints_the_files() {
    let home = Home::new();
    let render = |args: &[&str]| {
        let mut command = home.tool();
        command.env("BACKUP_JOB", "nightly").args(["notify", "--render"]).arg(home.path().join("mails"));
        run(command.args(args))
    };
    assert_snapshot!(normalize(&all(&render(&[])), &home), @"
        exit code 0
        --- stdout
        success    [HOME]/mails/success.html, [HOME]/mails/success.txt
        failure    [HOME]/mails/failure.html, [HOME]/mails/failure.txt
        recovered  [HOME]/mails/recovered.html, [HOME]/mails/recovered.txt
        cleanup    [HOME]/mails/cleanup.html, [HOME]/mails/cleanup.txt
        frozen     [HOME]/mails/frozen.html, [HOME]/mails/frozen.txt
        stats      [HOME]/mails/stats.html, [HOME]/mails/stats.txt
        health     [HOME]/mails/health.html, [HOME]/mails/health.txt
    ");
    assert_snapshot!(normalize(&compact(&render(&["--event", "failure", "--json"]).json()), &home), @r#"
        {
          "version": 1,
          "mails": [
            {
              "event": "failure",
              "subject": "[uzima-backup] backup failed: nightly (00000000T000000Z-000001)",
              "outcome": "written",
              "files": ["[HOME]/mails/failure.html", "[HOME]/mails/failure.txt"],
              "error": null,
              "next_step": null
            }
          ],
          "signals": []
        }
    "#);
}

#[test]
fn notify_test_prints_an_unreachable_service() {
    let home = Home::new();
    let test = |args: &[&str]| {
        let mut command = home.tool();
        command.env("RESEND_API_KEY", "re_hunter2").env("ADMIN_EMAILS", "ops@example.com");
        command.env("RESEND_BASE_URL", "http://127.0.0.1:1").env("BACKUP_JOB", "nightly");
        run(command.args(["notify", "--test", "--event", "failure"]).args(args))
    };
    assert_snapshot!(normalize(&all(&test(&[])), &home), @"
        exit code 1
        --- stdout
        failure    failed: the mail '[uzima-backup] TEST: backup failed: nightly (00000000T000000Z-000001)' was not sent: no answer from the service: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)
                   next step: Check that http://127.0.0.1:1 can be reached from this machine
    ");
    assert_snapshot!(normalize(&compact(&test(&["--json"]).json()), &home), @r#"
        {
          "version": 1,
          "mails": [
            {
              "event": "failure",
              "subject": "[uzima-backup] TEST: backup failed: nightly (00000000T000000Z-000001)",
              "outcome": "failed",
              "files": [],
              "error": "the mail '[uzima-backup] TEST: backup failed: nightly (00000000T000000Z-000001)' was not sent: no answer from the service: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)",
              "next_step": "Check that http://127.0.0.1:1 can be reached from this machine"
            }
          ],
          "signals": []
        }
    "#);
}
