//! `crontab.example` does what it says, and the settings that only cost time.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use uzima_testkit::mongod::Mongod;

use super::contents::contents;
use super::support::{Home, TOOL, run};

async fn server() -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_many((0..300).map(|n| bson::doc! {"_id": n, "text": "x".repeat(500)})).await.expect("rows");
    server
}

/// Each line, in the order of the night and in cron's environment: what cron itself does to `%` is done
/// to it first.
#[tokio::test]
async fn the_crontab_lines_run() {
    let (server, home) = (server().await, Home::new());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crontab.example");
    let text = std::fs::read_to_string(path).expect("crontab.example");
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let variable = |name: &str| lines.iter().find_map(|line| line.strip_prefix(&format!("{name}=")));
    let search = variable("PATH").expect("PATH is set: cron's own is short");
    assert!(search.split(':').all(|folder| folder.starts_with('/')), "{search}");
    assert!(variable("MAILTO").is_some_and(|to| !to.is_empty()), "a failure must reach somebody");
    let jobs: Vec<Vec<&str>> = lines
        .iter()
        .map(|line| line.splitn(6, ' ').collect::<Vec<_>>())
        .filter(|fields| fields.len() == 6 && fields[0].parse::<u8>().is_ok())
        .collect();
    let wanted = [("3", "backup"), ("4", "cleanup")];
    assert_eq!(jobs.len(), wanted.len(), "{lines:?}");
    let toml = format!(
        "mongo_uri = '{}'\ndir = '{}'\nmin_free = 0\nstate_dir = '{}'\nengine = 'native'\n",
        server.uri(),
        home.backups().display(),
        home.state().display()
    );
    let config = home.path().join("config.toml");
    std::fs::write(&config, toml).expect("a file");
    for (job, (hour, operation)) in jobs.iter().zip(wanted) {
        let (when, command) = job.split_at(5);
        assert_eq!(when, ["0", hour, "*", "*", "*"]);
        let command = command[0];
        assert!(command.starts_with(&format!("/usr/local/bin/uzima-backup {operation}")), "{command}");
        let percents = command.matches('%').count();
        assert_eq!(percents, command.matches("\\%").count(), "cron takes % for a new line");
        let command = command.replace("\\%", "%").replace("/usr/local/bin/uzima-backup", TOOL);
        let mut cron = Command::new("/bin/sh");
        cron.args(["-c", &command])
            .env_clear()
            .env("PATH", search)
            .env("SHELL", "/bin/sh")
            .env("LOGNAME", "root")
            .env("HOME", home.path())
            .env("UZIMA_BACKUP_CONFIG", &config)
            .current_dir(home.path())
            .stdin(Stdio::null());
        let ran = run(&mut cron).ends(0);
        // Cron mails whatever is said: of a night when all is well, nothing.
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), home.manifests().len()), ("", "", 1));
    }
}

/// Row 35: the switch works as flag and as variable, and the artifact is the same.
#[tokio::test]
async fn checked_compression_costs_only_time() {
    let server = server().await;
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        let home = Home::new();
        let tool = |args: &[&str], variable: Option<&str>| {
            let mut command = home.to_dir(&server.uri());
            command.envs(variable.map(|value| ("BACKUP_CHECK_COMPRESSION", value)));
            run(command.args(["backup", "--format", format]).args(args)).ends(0);
            let newest = home.manifests().pop().expect("a manifest");
            (contents(&newest, &home.artifact(&newest)), newest.artifact.size, newest.totals)
        };
        let (plain, _, totals) = tool(&[], None);
        assert_eq!(plain.documents["shop.rows"].len(), 300);
        for (args, variable) in [(&["--check-compression"][..], None), (&[], Some("true"))] {
            let (checked, _, same) = tool(args, variable);
            assert_eq!((plain.diff(&checked), totals), (vec![], same), "{format} {args:?} {variable:?}");
        }
    }
    let shown = |command: &mut Command| run(command.args(["config"])).ends(0).stdout;
    let home = Home::new();
    let on = shown(home.to_dir("mongodb://h").env("BACKUP_CHECK_COMPRESSION", "yes"));
    assert!(on.contains("check_compression = yes  (environment"), "{on}");
    run(home.to_dir("mongodb://h").env("BACKUP_CHECK_COMPRESSION", "maybe").arg("backup")).ends(2);
}
