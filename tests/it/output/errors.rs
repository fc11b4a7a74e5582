//! The errors of the command line and of the settings: message, next step and exit code.

use std::process::Command;

use insta::assert_snapshot;
use uzima_testkit::s3_server::{Fault, Rule};

use super::support::{all, normalize_measured};
use crate::cleanup::support::Place;
use crate::cli::support::{Home, NOWHERE, bare, run};

/// Runs each command, and puts the command lines and the outputs in one text.
fn session(home: &Home, commands: impl IntoIterator<Item = Command>) -> String {
    let shown = |mut command: Command| {
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        format!("$ uzima-backup {}\n{}\n", args.join(" "), all(&run(&mut command)))
    };
    normalize_measured(&commands.into_iter().map(shown).collect::<String>(), home)
}

#[test]
fn wrong_usage_is_exit_code_2_with_the_accepted_values() {
    let home = Home::new();
    let commands: [&[&str]; 11] = [
        &["restart"],
        &["bakcup"],
        &["backup", "--no-such-flag"],
        &["backup", "--level", "fast"],
        &["backup", "--quiet", "--verbose"],
        &["list", "--limit", "0"],
        &["list", "--limit", "many"],
        &["notify"],
        &["notify", "--test", "--event", "succes"],
        &["health", "--only", "fresh"],
        &["restore"],
    ];
    let commands = commands.map(|args| {
        let mut command = home.to_dir(NOWHERE);
        command.args(args);
        command
    });
    let nothing = run(&mut home.to_dir(NOWHERE)).ends(2);
    assert!(nothing.stderr.contains("Usage: uzima-backup [OPTIONS] <COMMAND>"), "{}", nothing.stderr);
    assert_snapshot!(session(&home, commands), @"
        $ uzima-backup restart
        exit code 2
        --- stderr
        error: unrecognized subcommand 'restart' · a similar subcommand exists: 'restore'
        next step: `uzima-backup --help` shows the usage

        $ uzima-backup bakcup
        exit code 2
        --- stderr
        error: unrecognized subcommand 'bakcup' · a similar subcommand exists: 'backup'
        next step: `uzima-backup --help` shows the usage

        $ uzima-backup backup --no-such-flag
        exit code 2
        --- stderr
        error: unexpected argument '--no-such-flag' found
        next step: `uzima-backup backup --help` shows the usage

        $ uzima-backup backup --level fast
        exit code 2
        --- stderr
        error: --level = 'fast': it must be a whole number or auto
        next step: `uzima-backup backup --help` shows the usage

        $ uzima-backup backup --quiet --verbose
        exit code 2
        --- stderr
        error: the argument '--quiet' cannot be used with '--verbose...'
        next step: `uzima-backup backup --help` shows the usage

        $ uzima-backup list --limit 0
        exit code 2
        --- stderr
        error: --limit = '0': it must be a whole number, at least 1
        next step: `uzima-backup list --help` shows the usage

        $ uzima-backup list --limit many
        exit code 2
        --- stderr
        error: --limit = 'many': it must be a whole number, at least 1
        next step: `uzima-backup list --help` shows the usage

        $ uzima-backup notify
        exit code 2
        --- stderr
        error: the following required arguments were not provided: --test
        next step: `uzima-backup notify --help` shows the usage

        $ uzima-backup notify --test --event succes
        exit code 2
        --- stderr
        error: --event = 'succes': 'succes' is not an event: it must be one of success, failure, recovered, cleanup, frozen, stats, health
        next step: `uzima-backup notify --help` shows the usage

        $ uzima-backup health --only fresh
        exit code 2
        --- stderr
        error: invalid value 'fresh' for '--only <CHECK>' · [possible values: configuration, mongodb, namespaces, engine, store, disk, clock, freshness, backups, drill, key, oplog, copies, records, mail, deadman, state] · a similar value exists: 'freshness'
        next step: `uzima-backup health --help` shows the usage

        $ uzima-backup restore
        exit code 2
        --- stderr
        error: the following required arguments were not provided: <latest|ID>
        next step: `uzima-backup restore --help` shows the usage
    ");
    home.assert_nothing_stored();
}

#[test]
fn wrong_settings_are_exit_code_2_with_the_next_step() {
    let home = Home::new();
    let mut nothing = bare();
    nothing.arg("backup");
    let mut text = session(&home, [nothing]);
    for (name, value, command) in [
        ("MONGO_URI", "localhost:27017", "backup"),
        ("MONGO_URI", "mongodb://u:p@ss@db1/", "backup"),
        ("BACKUP_FORMAT", "zip", "backup"),
        ("BACKUP_RETENTION_DAYS", "0", "cleanup"),
        ("BACKUP_ENGINE", "fast", "backup"),
        ("BACKUP_PATIENCE", "soon", "backup"),
        ("UZIMA_BACKUP_CONFIG", "/none/config.toml", "list"),
        ("S3_BACKUP_BUCKET", "backups", "list"),
    ] {
        let mut tool = home.to_dir(NOWHERE);
        tool.env(name, value).arg(command);
        text.push_str(&format!("{name}={value}\n{}", session(&home, [tool])));
    }
    assert_snapshot!(text, @"
        $ uzima-backup backup
        exit code 2
        --- stderr
        error: there is no place for backups: neither S3_BACKUP_BUCKET nor BACKUP_DIR is set
        next step: Set S3_BACKUP_BUCKET (s3.bucket) or BACKUP_DIR (dir); cron does not see the shell's variables

        MONGO_URI=localhost:27017
        $ uzima-backup backup
        exit code 2
        --- stderr
        error: mongo_uri is not a valid connection string: connection string contains no scheme
        next step: A connection string looks like mongodb://user:password@host:27017/; percent-encode the characters @ : / % $ in a password

        MONGO_URI=mongodb://u:p@ss@db1/
        $ uzima-backup backup
        exit code 2
        --- stderr
        error: mongo_uri is not a valid connection string: password must be URL encoded
        next step: A connection string looks like mongodb://user:password@host:27017/; percent-encode the characters @ : / % $ in a password

        BACKUP_FORMAT=zip
        $ uzima-backup backup
        exit code 2
        --- stderr
        error: format = 'zip' (environment, BACKUP_FORMAT): it must be one of tar.gz, tar.zst, archive.gz, archive.zst
        next step: Correct BACKUP_FORMAT; the default is tar.gz

        BACKUP_RETENTION_DAYS=0
        $ uzima-backup cleanup
        exit code 2
        --- stderr
        error: retention_days = '0' (environment, BACKUP_RETENTION_DAYS): it must be a whole number, at least 1
        next step: Correct BACKUP_RETENTION_DAYS; the default is 30 days. To keep every backup, do not run `cleanup`

        BACKUP_ENGINE=fast
        $ uzima-backup backup
        exit code 2
        --- stderr
        error: engine = 'fast' (environment, BACKUP_ENGINE): it must be one of auto, native, mongodump
        next step: Correct BACKUP_ENGINE; the default is auto

        BACKUP_PATIENCE=soon
        $ uzima-backup backup
        exit code 2
        --- stderr
        error: patience = 'soon' (environment, BACKUP_PATIENCE): it must be a whole number, at least 1
        next step: Correct BACKUP_PATIENCE; the default is 600 seconds

        UZIMA_BACKUP_CONFIG=/none/config.toml
        $ uzima-backup list
        exit code 2
        --- stderr
        error: cannot read the configuration file /none/config.toml: No such file or directory (os error 2)
        next step: Correct --config or UZIMA_BACKUP_CONFIG, or let this user read it; `uzima-backup init` writes a new one

        S3_BACKUP_BUCKET=backups
        $ uzima-backup list
        exit code 2
        --- stderr
        error: both a bucket (S3_BACKUP_BUCKET) and a directory (BACKUP_DIR) are set
        next step: Set one of them, and the other one as a copy (COPY_DIR, COPY_S3_BUCKET)
    ");
}

#[test]
fn a_failed_command_is_exit_code_1_with_the_next_step() {
    let home = Home::new();
    let commands: [&[&str]; 8] = [
        &["backup", "--quiet"],
        &["backup", "--dry-run", "--quiet"],
        &["verify", "latest"],
        &["restore", "latest", "--yes"],
        &["restore", "20200101T000000Z-abcdef", "--yes"],
        &["pin", "20200101T000000Z-abcdef"],
        &["list", "--dir", "/none"],
        &["cleanup", "--accept", "20200101T000000Z-abcdef"],
    ];
    let commands = commands.map(|args| {
        let mut command = home.to_dir(NOWHERE);
        command.env("BACKUP_JOB", "nightly").env("RESTORE_URI", NOWHERE).args(args);
        command
    });
    assert_snapshot!(session(&home, commands), @"
        $ uzima-backup backup --quiet
        exit code 1
        --- stderr
        error: cannot connect to MongoDB at 127.0.0.1:1, tried again for [TIME]: connection refused
        next step: Check that MongoDB runs at this address, that MONGO_URI names it, and that its TLS settings are right

        $ uzima-backup backup --dry-run --quiet
        exit code 1
        --- stderr
        error: cannot connect to MongoDB at 127.0.0.1:1, tried again for [TIME]: connection refused
        next step: Check that MongoDB runs at this address, that MONGO_URI names it, and that its TLS settings are right

        $ uzima-backup verify latest
        exit code 1
        --- stderr
        error: there is no backup of the job nightly in [HOME]/backups
        next step: Check that this is the place of the backups (`uzima-backup config`)

        $ uzima-backup restore latest --yes
        exit code 1
        --- stderr
        error: there is no backup of the job nightly in [HOME]/backups
        next step: Check that this is the place of the backups (`uzima-backup config`)

        $ uzima-backup restore 00000000T000000Z-000001 --yes
        exit code 1
        --- stderr
        error: there is no backup 00000000T000000Z-000001 in [HOME]/backups
        next step: `uzima-backup list` shows the existing backups

        $ uzima-backup pin 00000000T000000Z-000001
        exit code 1
        --- stderr
        error: there is no backup 00000000T000000Z-000001
        next step: `uzima-backup list` shows the backups

        $ uzima-backup list --dir /none
        exit code 1
        --- stderr
        error: there is no backup directory /none
        next step: If there were backups in it, mount the disk, or correct --dir or BACKUP_DIR; if not, the first backup creates it

        $ uzima-backup cleanup --accept 00000000T000000Z-000001
        exit code 1
        --- stderr
        error: the job nightly has no backup 00000000T000000Z-000001 to accept
        next step: `uzima-backup list` shows the backups and their jobs
    ");
}

#[test]
fn a_refused_request_to_a_bucket_names_the_bucket_and_the_right() {
    let place = Place::s3();
    place.nightly([0]);
    let mut text = String::new();
    for (operation, code) in [("ListObjectsV2", "AccessDenied"), ("GetObject", "AccessDenied")] {
        place.bucket().faults().add(Rule::always(operation, Fault::Answer(403, code)));
        let mut list = place.command();
        list.arg("list");
        text.push_str(&session(&place.home, [list]));
        place.bucket().faults().clear();
    }
    assert_snapshot!(text, @"
        $ uzima-backup list
        exit code 1
        --- stderr
        error: cannot list s3://backups/daily-backups/: AccessDenied: on purpose (HTTP 403)
        next step: Allow s3:ListBucket on the bucket backups for these credentials

        $ uzima-backup list
        exit code 1
        --- stderr
        error: cannot read s3://backups/daily-backups/0000/00/00000000T000000Z-000001/manifest.json: AccessDenied: on purpose (HTTP 403)
        next step: Allow s3:GetObject on the bucket backups for these credentials
    ");
}
