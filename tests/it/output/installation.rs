//! The output of `health` and `init`.

use insta::assert_snapshot;

use super::support::{Shop, all, compact, normalize_measured};
use crate::cli::support::{NOWHERE, run};

#[tokio::test(flavor = "multi_thread")]
async fn health_prints_a_line_for_each_check() {
    let shop = Shop::open().await;
    shop.run(&["backup", "--db", "shop", "--job", "nightly"]).ends(0);
    assert_snapshot!(shop.text(&["health"]), @"
        exit code 0
        --- stdout
        ok              configuration  job nightly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups   [TIME]
        ok              mongodb        [SERVER VERSION], standalone, 127.0.0.1:00000   [TIME]
        ok              namespaces     3 readable, [SIZE]; each collection is read at its own time: a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()   [TIME]
        ok              engine         native: engine = native   [TIME]
        ok              store          [HOME]/backups, a probe was written, read and deleted   [TIME]
        ok              disk           [SIZE] of [SIZE] free, 0 % must stay; there is room for another backup as large as the last one, [SIZE]   [TIME]
        skipped         clock          a directory has no clock of its own   [TIME]
        ok              freshness      00000000T000000Z-000001 is 0 min old, 30 h are allowed   [TIME]
        ok              backups        1 backup, no damage known   [TIME]
        not configured  drill          no backup was ever drilled: run `uzima-backup verify latest --drill`   [TIME]
        not configured  key            the backups are not encrypted (BACKUP_RECIPIENTS)   [TIME]
        not configured  oplog          no oplog slice is stored: `uzima-backup oplog` does not run for this job   [TIME]
        not configured  records        BACKUP_RECORDS is off   [TIME]
        not configured  mail           neither ADMIN_EMAILS nor RESEND_API_KEY, SMTP_HOST or MAIL_BY is set: failures are not mailed   [TIME]
        ok              state          [HOME]/state   [TIME]
        healthy: 9 ok, 1 skipped, 5 not configured
    ");
    assert_snapshot!(shop.json(&["health"]), @r#"
        {
          "version": 1,
          "job": "nightly",
          "healthy": true,
          "checks": [
            {
              "name": "configuration",
              "outcome": "ok",
              "detail": "job nightly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "mongodb",
              "outcome": "ok",
              "detail": "[SERVER VERSION], standalone, 127.0.0.1:00000",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "namespaces",
              "outcome": "ok",
              "detail": "3 readable, [SIZE]; each collection is read at its own time: a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "engine",
              "outcome": "ok",
              "detail": "native: engine = native",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "store",
              "outcome": "ok",
              "detail": "[HOME]/backups, a probe was written, read and deleted",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "disk",
              "outcome": "ok",
              "detail": "[SIZE] of [SIZE] free, 0 % must stay; there is room for another backup as large as the last one, [SIZE]",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "clock",
              "outcome": "skipped",
              "detail": "a directory has no clock of its own",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "freshness",
              "outcome": "ok",
              "detail": "00000000T000000Z-000001 is 0 min old, 30 h are allowed",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "backups",
              "outcome": "ok",
              "detail": "1 backup, no damage known",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "drill",
              "outcome": "not_configured",
              "detail": "no backup was ever drilled: run `uzima-backup verify latest --drill`",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "key",
              "outcome": "not_configured",
              "detail": "the backups are not encrypted (BACKUP_RECIPIENTS)",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "oplog",
              "outcome": "not_configured",
              "detail": "no oplog slice is stored: `uzima-backup oplog` does not run for this job",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "records",
              "outcome": "not_configured",
              "detail": "BACKUP_RECORDS is off",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "mail",
              "outcome": "not_configured",
              "detail": "neither ADMIN_EMAILS nor RESEND_API_KEY, SMTP_HOST or MAIL_BY is set: failures are not mailed",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "state",
              "outcome": "ok",
              "detail": "[HOME]/state",
              "milliseconds": 0,
              "next_step": null
            }
          ]
        }
    "#);
    // MongoDB is down, and the job has no backup. Standard error also logs each attempt to connect.
    let down = run(shop.home.to_dir(NOWHERE).env("BACKUP_JOB", "weekly").arg("health")).ends(5);
    assert_snapshot!(normalize_measured(&down.stdout, &shop.home), @"
        ok              configuration  job weekly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups   [TIME]
        failed          mongodb        cannot connect to MongoDB at 127.0.0.1:1, tried again for [TIME]: connection refused   [TIME]
                                       next step: Check that MongoDB runs at this address, that MONGO_URI names it, and that its TLS settings are right
        skipped         namespaces     because mongodb failed
        ok              engine         native: engine = native   [TIME]
        ok              store          [HOME]/backups, a probe was written, read and deleted   [TIME]
        ok              disk           [SIZE] of [SIZE] free, 0 % must stay; there is no backup yet to compare with   [TIME]
        skipped         clock          a directory has no clock of its own   [TIME]
        failed          freshness      there is no backup of the job weekly, only backups of nightly (--job, BACKUP_JOB)   [TIME]
                                       next step: Run `uzima-backup backup`; on a new installation: --skip freshness
        skipped         backups        there is no backup yet   [TIME]
        not configured  drill          no backup was ever drilled: run `uzima-backup verify latest --drill --job weekly`   [TIME]
        not configured  key            the backups are not encrypted (BACKUP_RECIPIENTS)   [TIME]
        not configured  oplog          no oplog slice is stored: `uzima-backup oplog` does not run for this job   [TIME]
        skipped         records        because mongodb failed
        not configured  mail           neither ADMIN_EMAILS nor RESEND_API_KEY, SMTP_HOST or MAIL_BY is set: failures are not mailed   [TIME]
        ok              state          [HOME]/state   [TIME]
        5 ok, 2 failed, 4 skipped, 4 not configured
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_prints_the_file_the_health_and_the_schedule() {
    let shop = Shop::open().await;
    let config = shop.home.path().join("config.toml");
    let init = |args: &[&str]| {
        let mut command = shop.home.to_dir(&shop.server.uri());
        command.env("BACKUP_JOB", "nightly").args(["init", "--config"]).arg(&config).args(args);
        run(&mut command)
    };
    // The programs of the machine and the owner of the folder differ from machine to machine.
    let text = normalize_measured(&all(&init(&[])), &shop.home);
    assert_snapshot!(without_section(&text, "Found on this machine:"), @r#"
        exit code 0
        --- stdout
        [HOME]/config.toml is written (mode 0600):
            dir, engine, job, min_free, mongo_uri, patience, readers, records, state_dir

        Found on this machine:
            [MACHINE]

        Health:
            ok              configuration  job nightly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups   [TIME]
            ok              mongodb        [SERVER VERSION], standalone, 127.0.0.1:00000   [TIME]
            ok              namespaces     3 readable, [SIZE]; each collection is read at its own time: a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()   [TIME]
            ok              engine         native: engine = native   [TIME]
            ok              store          [HOME]/backups, a probe was written, read and deleted   [TIME]
            ok              disk           [SIZE] of [SIZE] free, 0 % must stay; there is no backup yet to compare with   [TIME]
            skipped         clock          a directory has no clock of its own   [TIME]
            skipped         freshness      by --skip
            skipped         backups        there is no backup yet   [TIME]
            skipped         drill          by --skip
            not configured  key            the backups are not encrypted (BACKUP_RECIPIENTS)   [TIME]
            not configured  oplog          no oplog slice is stored: `uzima-backup oplog` does not run for this job   [TIME]
            not configured  records        BACKUP_RECORDS is off   [TIME]
            not configured  mail           neither ADMIN_EMAILS nor RESEND_API_KEY, SMTP_HOST or MAIL_BY is set: failures are not mailed   [TIME]
            ok              state          [HOME]/state does not exist yet: the first backup creates it   [TIME]
            healthy: 7 ok, 4 skipped, 4 not configured

        The first backup, as the user of the nightly backups:
            uzima-backup --config [HOME]/config.toml backup

        Every night:
            uzima-backup --config [HOME]/config.toml init --install
        It shows a plan, asks, and adds 3 jobs to the crontab of the user who runs it;
        as root on a machine with systemd, it enables 3 timers instead.

        Encryption, so that a reader of the store cannot read the data:
            Make two keys on another machine (uzima-backup keygen --out first.key), and
            keep the secret keys there, one of them offline. This machine needs the
            public keys only, so it cannot read its own backups. Without a secret key,
            nobody can restore them.
            Then add this line to [HOME]/config.toml:
            recipients = ["age1…", "age1…"]
        --- stderr
        0000-00-00T00:00:00Z INFO  wrote [HOME]/config.toml; trying it, which takes half a minute or more if a server does not answer
    "#);
    let mut json = init(&["--force", "--json"]).ends(0).json();
    json["found"] = "[MACHINE]".into();
    json["systemd"] = "[MACHINE]".into();
    assert_snapshot!(normalize_measured(&compact(&json), &shop.home), @r#"
        {
          "version": 1,
          "file": "[HOME]/config.toml",
          "mode": "0600",
          "kept": "[HOME]/config.toml.bak",
          "settings": ["dir", "engine", "job", "min_free", "mongo_uri", "patience", "readers", "records", "state_dir"],
          "left_out": [],
          "found": "[MACHINE]",
          "health": {
            "version": 1,
            "job": "nightly",
            "healthy": true,
            "checks": [
              {
                "name": "configuration",
                "outcome": "ok",
                "detail": "job nightly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "mongodb",
                "outcome": "ok",
                "detail": "[SERVER VERSION], standalone, 127.0.0.1:00000",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "namespaces",
                "outcome": "ok",
                "detail": "3 readable, [SIZE]; each collection is read at its own time: a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "engine",
                "outcome": "ok",
                "detail": "native: engine = native",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "store",
                "outcome": "ok",
                "detail": "[HOME]/backups, a probe was written, read and deleted",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "disk",
                "outcome": "ok",
                "detail": "[SIZE] of [SIZE] free, 0 % must stay; there is no backup yet to compare with",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "clock",
                "outcome": "skipped",
                "detail": "a directory has no clock of its own",
                "milliseconds": 0,
                "next_step": null
              },
              {"name": "freshness", "outcome": "skipped", "detail": "by --skip", "milliseconds": 0, "next_step": null},
              {
                "name": "backups",
                "outcome": "skipped",
                "detail": "there is no backup yet",
                "milliseconds": 0,
                "next_step": null
              },
              {"name": "drill", "outcome": "skipped", "detail": "by --skip", "milliseconds": 0, "next_step": null},
              {
                "name": "key",
                "outcome": "not_configured",
                "detail": "the backups are not encrypted (BACKUP_RECIPIENTS)",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "oplog",
                "outcome": "not_configured",
                "detail": "no oplog slice is stored: `uzima-backup oplog` does not run for this job",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "records",
                "outcome": "not_configured",
                "detail": "BACKUP_RECORDS is off",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "mail",
                "outcome": "not_configured",
                "detail": "neither ADMIN_EMAILS nor RESEND_API_KEY, SMTP_HOST or MAIL_BY is set: failures are not mailed",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "state",
                "outcome": "ok",
                "detail": "[HOME]/state",
                "milliseconds": 0,
                "next_step": null
              }
            ]
          },
          "crontab": [
            "0 3 * * * uzima-backup --config [HOME]/config.toml backup --quiet",
            "0 4 * * * uzima-backup --config [HOME]/config.toml cleanup --quiet",
            "0 6 1 * * uzima-backup --config [HOME]/config.toml health --quiet"
          ],
          "systemd": "[MACHINE]",
          "install": null,
          "recipients": 0,
          "oplog": null
        }
    "#);
}

/// Replaces the indented lines below a heading.
fn without_section(text: &str, heading: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut out = Vec::new();
    while let Some(line) = lines.next() {
        out.push(line);
        if line.starts_with(heading) {
            while lines.next_if(|line| line.starts_with("    ")).is_some() {}
            out.push("    [MACHINE]");
        }
    }
    out.join("\n")
}
