//! The units in examples/systemd run the commands of crontab.example at the same times, systemd accepts them, and the tool
//! accepts the credentials of the services.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{ending, read, root};
use crate::cli::support::{Home, NOWHERE, TOOL, bare, run};

const SHARED: &str = "examples/systemd/uzima-backup-.service.d/10-uzima-backup.conf";
const PACKAGED: &str = "/usr/bin/uzima-backup";

/// The settings of a unit: section, key, value.
fn settings(path: &Path) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut all = Vec::new();
    for line in read(path).lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.into();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", path.display()));
        assert!(key.chars().all(|c| c.is_ascii_alphanumeric()) && !section.is_empty(), "{line}");
        all.push((section.clone(), key.into(), value.into()));
    }
    all
}

/// The one value of a setting.
fn value(path: &Path, section: &str, key: &str) -> String {
    let all = settings(path);
    let found: Vec<_> = all.iter().filter(|(s, k, _)| s == section && k == key).collect();
    assert_eq!(found.len(), 1, "{}: {key}", path.display());
    found[0].2.clone()
}

/// Converts the five time fields of a crontab line into systemd's form.
fn calendar(fields: &str) -> String {
    let [minute, hour, day, "*", weekday] = fields.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{fields}")
    };
    let weekday = match weekday {
        "*" => "",
        "0" => "Sun ",
        other => panic!("{other}"),
    };
    if let Some(interval) = minute.strip_prefix("*/") {
        assert_eq!((hour, day), ("*", "*"), "{fields}");
        return format!("{weekday}*-*-* *:00/{interval}:00");
    }
    let day = if day == "*" { day.to_string() } else { format!("{day:0>2}") };
    format!("{weekday}*-*-{day} {hour:0>2}:{minute:0>2}:00")
}

#[test]
fn they_start_what_the_crontab_starts() {
    let folder = root().join("examples/systemd");
    let crontab = read(&root().join("crontab.example"));
    // The jobs for copies and the oplog are comments, as their timers are not enabled.
    let jobs: Vec<(String, String)> = crontab
        .lines()
        .map(|line| line.strip_prefix('#').filter(|job| job.contains(" * * uzima-backup ")).unwrap_or(line))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit() || c == '*'))
        .map(|line| {
            let (times, command) = line.split_once(" uzima-backup ").expect("a job");
            (calendar(times), command.into())
        })
        .collect();
    assert_eq!(jobs.len(), ending(&folder, ".timer").len());
    assert_eq!(jobs.len(), ending(&folder, ".service").len());
    for (time, command) in jobs {
        let name = command.split(' ').next().expect("an operation");
        let service = folder.join(format!("uzima-backup-{name}.service"));
        // systemd's journal takes what cron would mail.
        let words = command.replace(" --quiet", "");
        let exec = value(&service, "Service", "ExecStart");
        assert_eq!(exec, format!("{PACKAGED} {words}"));
        uzima_backup::cli::command().try_get_matches_from(exec.split(' ')).expect("a command line");
        let timer = folder.join(format!("uzima-backup-{name}.timer"));
        assert_eq!(value(&timer, "Timer", "OnCalendar"), time);
        assert_eq!(value(&timer, "Timer", "Persistent"), "true");
        value(&timer, "Timer", "RandomizedDelaySec");
        assert_eq!(value(&timer, "Install", "WantedBy"), "timers.target");
    }
}

/// `systemd-analyze` accepts every section, key and value without a warning.
#[test]
fn systemd_understands_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let drop_ins = folder.path().join("uzima-backup-.service.d");
    std::fs::create_dir(&drop_ins).expect("a folder");
    // Also check the settings in comments, which a person can enable.
    let on = |line: &str| {
        line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n"
    };
    let shared: String = read(&root().join(SHARED)).lines().map(on).collect();
    assert!(shared.contains("\nReadWritePaths=") && shared.contains("\nEnvironment=MONGO_URI_FILE="));
    std::fs::write(drop_ins.join("10-uzima-backup.conf"), shared).expect("a file");
    let mut units = Vec::new();
    for path in ["service", "timer"].into_iter().flat_map(|end| ending(&root().join("examples/systemd"), end))
    {
        let to = folder.path().join(path.file_name().expect("a name"));
        std::fs::write(&to, read(&path).replace(PACKAGED, TOOL)).expect("a file");
        units.push(to);
    }
    let units = units.into_iter().filter(|unit| unit.is_file());
    let mut verify = Command::new("systemd-analyze");
    verify
        .args(["verify", "--man=no"])
        .args(units)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()));
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("SKIPPED packaging::systemd::systemd_understands_them: systemd-analyze is not on PATH");
        return;
    }
    let ran = run(&mut verify).ends(0);
    let ours: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("uzima-backup")).collect();
    assert_eq!(ours, Vec::<&str>::new());
}

/// The example of local settings in docs/operations.md has the settings that the shared file has in comments.
#[test]
fn the_page_has_the_same_settings() {
    let page = read(&root().join("docs/operations.md"));
    let block = page.split_once("```ini\n").expect("a block").1.split_once("\n```").expect("its end").0;
    let shared = read(&root().join(SHARED));
    let own: Vec<&str> = block.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(own[0] == "[Service]" && own.len() == 4, "{own:?}");
    for line in &own[1..] {
        assert!(shared.contains(&format!("\n#{line}\n")), "{line}");
    }
}

/// `LoadCredential=` gives the service a read-only copy of the configuration file that only its user can read
/// (systemd.exec(5)). The tool accepts such a file, also if it has a secret.
#[test]
fn a_credential_is_a_configuration_file() {
    let home = Home::new();
    let shared = settings(&root().join(SHARED));
    let environment =
        |(_, key, value): &(String, String, String)| (key == "Environment").then(|| value.clone());
    let line = shared.iter().find_map(environment).expect("a variable");
    let (name, path) = line.split_once('=').expect("an assignment");
    let path = path.replace("%d", home.path().to_str().expect("UTF-8"));
    let toml = format!("mongo_uri = '{NOWHERE}'\ndir = '/b'\n[s3]\nsecret_access_key = 'hunter2'\n");
    for mode in [0o400, 0o440] {
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, &toml).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its mode");
        let shown = run(bare().env(name, &path).arg("config")).ends(0).stdout;
        assert!(shown.contains(&format!("dir = /b  ({path})")) && !shown.contains("hunter2"), "{shown}");
    }
}
