//! Hooks of runs that go well: their order and environment, and the commands that show them.

use uzima_backup::catalog::layout;

use super::support::{environment, hooked, script, writes_environment};
use crate::cli::support::{Home, NOWHERE, TOOL, run, server_with_rows};

/// Both hooks run under the lock, one before anything is stored and one when the backup exists. Their environment has nothing
/// but what is documented.
#[tokio::test]
async fn hooks_run_around_a_backup_with_its_facts() {
    let (server, home) = (server_with_rows(300, 100).await, Home::new());
    let at = |name: &str| home.path().join(name);
    let nested = format!(
        "env -i MONGO_URI='{}' BACKUP_DIR={} UZIMA_BACKUP_STATE_DIR={} UZIMA_BACKUP_CONFIG=/dev/null \
         BACKUP_RECORDS=off BACKUP_JOB=nightly {TOOL} backup --quiet 2>/dev/null; echo $?",
        server.uri(),
        home.backups().display(),
        home.state().display(),
    );
    let listing = format!("find {} -name manifest.json | wc -l", home.backups().display());
    let hook = |name: &str| {
        let (env, out) = (writes_environment(&at(&format!("{name}.env"))), at(&format!("{name}.out")));
        format!("{env}\n({nested}; {listing}) > {}\necho said by {name}; echo \"$1\" $# >&2", out.display())
    };
    let mut command = home.to_dir(&server.uri());
    hooked(&mut command, &home, &hook("before"), &hook("after"));
    // The second item is an argument, which no shell splits.
    command.env("BACKUP_BEFORE_HOOK", format!("{},a  $HOME", at("before.sh").display()));
    command.envs([("BACKUP_JOB", "nightly"), ("TZ", "UTC"), ("AWS_SECRET_ACCESS_KEY", "hidden")]);
    let ran = run(command.args(["backup", "--json"])).ends(0);
    let words = ["before_backup: said by before", "before_backup: a  $HOME 1", "after_backup: said by after"];
    let at_word = |word: &str| ran.stderr.find(word).unwrap_or_else(|| panic!("no {word} in {}", ran.stderr));
    assert!(words.map(at_word).is_sorted(), "{}", ran.stderr);
    let out = |name: &str| std::fs::read_to_string(at(name)).expect("its output");
    let lines = |name: &str| out(name).split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(lines("before.out"), ["75", "0"], "another run is refused, and there is no backup yet");
    assert_eq!(lines("after.out"), ["75", "1"]);

    let report = ran.json();
    let text = |key: &str| report[key].as_str().map_or_else(|| report[key].to_string(), str::to_string);
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let id = text("id");
    let manifest = layout::manifest(&id.parse().expect("an id"));
    let mut want = vec![
        ("PATH", path),
        ("TZ", "UTC"),
        ("UZIMA_HOOK", "before_backup"),
        ("UZIMA_HOST", host.trim()),
        ("UZIMA_JOB", "nightly"),
        ("UZIMA_PARTIAL", "false"),
        ("UZIMA_STATUS", "started"),
    ];
    let found = environment(&at("before.env"));
    let pairs = |found: &std::collections::BTreeMap<String, String>| {
        found.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
    };
    let owned = |pairs: &[(&str, &str)]| {
        let mut pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        pairs.sort();
        pairs
    };
    assert_eq!(pairs(&found), owned(&want));
    let figures = ["namespaces", "documents", "raw_bytes", "stored_bytes"].map(text);
    want.retain(|(name, _)| !["UZIMA_HOOK", "UZIMA_STATUS"].contains(name));
    let found = environment(&at("after.env"));
    let seconds = found["UZIMA_SECONDS"].clone();
    assert!(seconds.parse::<u64>().is_ok(), "{seconds}");
    let place = text("place");
    want.extend([
        ("UZIMA_HOOK", "after_backup"),
        ("UZIMA_STATUS", "done"),
        ("UZIMA_EXIT_CODE", "0"),
        ("UZIMA_ID", &id),
        ("UZIMA_PLACE", &place),
        ("UZIMA_MANIFEST", &manifest),
        ("UZIMA_NAMESPACES", &figures[0]),
        ("UZIMA_DOCUMENTS", &figures[1]),
        ("UZIMA_RAW_BYTES", &figures[2]),
        ("UZIMA_STORED_BYTES", &figures[3]),
        ("UZIMA_SECONDS", &seconds),
    ]);
    assert_eq!(pairs(&found), owned(&want));
    assert!(home.backups().join(&manifest).is_file());
}

/// A run of a part of the job has the hooks, too.
#[tokio::test]
async fn a_plan_shows_the_hooks_and_runs_none() {
    let (server, home) = (server_with_rows(3, 10).await, Home::new());
    let mark = home.path().join("mark");
    let hook = format!("echo $UZIMA_HOOK $UZIMA_PARTIAL >> {}", mark.display());
    let tool = || {
        let mut command = home.to_dir(&server.uri());
        hooked(&mut command, &home, &hook, &hook);
        command.env("BACKUP_JOB", "nightly");
        command
    };
    let program = |name: &str| home.path().join(name).display().to_string();
    let lines = ["before", "after"]
        .map(|name| format!("would run the hook {name}_backup: {}\n", program(&format!("{name}.sh"))));
    run(tool().args(["backup", "--dry-run"])).ends(0).prints(&[&lines[0], &lines[1]]);
    let plan = run(tool().args(["backup", "--dry-run", "--json"])).ends(0).json();
    assert_eq!(plan["hooks"][1]["name"], "after_backup");
    assert_eq!(plan["hooks"][1]["command"], serde_json::json!([program("after.sh")]));
    let shown = run(tool().arg("config")).ends(0).stdout;
    let line = format!("hooks.before_backup = {}  (environment, BACKUP_BEFORE_HOOK)", program("before.sh"));
    assert!(shown.contains(&line) && shown.contains("hooks.timeout = 600 seconds  (default)"), "{shown}");
    assert!(!mark.exists(), "no hook ran");
    run(tool().args(["backup", "--db", "shop"])).ends(0);
    let ran = std::fs::read_to_string(&mark).expect("both hooks ran");
    assert_eq!(ran, "before_backup true\nafter_backup true\n");
    run(tool().args(["oplog", "--dry-run"]));
    run(tool().arg("list")).ends(0);
    assert_eq!(std::fs::read_to_string(&mark).expect("the file"), ran, "only backups have hooks");
}

/// A shell runs a hook only if a setting asks for it.
#[test]
fn a_shell_runs_a_hook_if_the_settings_ask_for_one() {
    let home = Home::new();
    let (config, out) = (home.path().join("config.toml"), home.path().join("out"));
    let toml = format!(
        "[hooks]\nshell = true\nafter_backup = ['for n in 1 2; do echo $n, $UZIMA_STATUS; done > {}']\n",
        out.display()
    );
    std::fs::write(&config, toml).expect("a file");
    run(home.to_dir(NOWHERE).env("UZIMA_BACKUP_CONFIG", &config).arg("backup")).ends(1);
    assert_eq!(std::fs::read_to_string(&out).expect("its output"), "1, failed\n2, failed\n");
}

/// The log takes a part of the output of a hook. The rest is read, so that the hook does not hang.
#[test]
fn a_hook_that_prints_much_does_not_fill_the_log() {
    let home = Home::new();
    let before = "head -c 150000 /dev/zero | tr '\\0' x; echo; seq 1 200000; echo end; exit 7";
    let mut command = home.to_dir(NOWHERE);
    command.env("BACKUP_BEFORE_HOOK", script(&home, "before.sh", before));
    let ran = run(command.arg("backup")).ends(1).says(&["exit code 7; its last line: end"]);
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("INFO  before_backup: ")).collect();
    assert_eq!(lines.len(), 1_000);
    assert!(lines[0].ends_with("xxx…") && lines[0].len() < 2_200, "{}", lines[0].len());
    assert!(lines[999].ends_with("before_backup: 999"), "{}", lines[999]);
    assert_eq!(ran.stderr.matches("prints more than the log takes").count(), 1);
}
