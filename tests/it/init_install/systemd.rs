//! Installing with systemd's timers, in the image of a machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use uzima_backup::base::cancel::Cancel;
use uzima_backup::config::machine::Machine;
use uzima_backup::config::{Config, Raw};
use uzima_backup::ops::init::install::{self, Host, InstallPlan, Scheduler};
use uzima_backup::ops::init::schedule::{Schedule, ServicePath, service_user};
use uzima_backup::ops::init::{InitOptions, Prepared, prepare};

use super::support::Programs;
use crate::cli::support::{NOWHERE, TOOL, run};

const DROP_IN: &str = "/etc/systemd/system/uzima-backup-.service.d/50-init.conf";
const WITHOUT_MAIL: &str = "/etc/systemd/system/uzima-backup-health.service.d/without-mail.conf";

/// The image of a machine that systemd started.
struct Image {
    folder: TempDir,
    programs: Programs,
    host: Host,
    mails: bool,
    oplog: bool,
}

impl Image {
    /// With the package installed, or the binary alone.
    fn new(packaged: bool) -> Image {
        let folder = TempDir::new().expect("a folder");
        let programs = Programs::new(folder.path());
        let root = folder.path().join("root");
        let search_path = Some(programs.folder().display().to_string());
        let host = Host { root, search_path, user: 0 };
        let image = Image { host, folder, programs, mails: false, oplog: false };
        std::fs::create_dir_all(image.at("/run/systemd/system")).expect("a folder");
        std::fs::create_dir_all(image.at("/etc")).expect("a folder");
        let mut passwd = "root:x:0:0:root:/root:/bin/bash\n".to_string();
        if packaged {
            passwd.push_str("uzima-backup:x:997:996::/var/lib/uzima-backup:\n");
            std::fs::create_dir_all(image.at("/usr/lib/systemd/system")).expect("a folder");
            std::fs::write(image.at("/usr/lib/systemd/system/uzima-backup-backup.service"), "")
                .expect("a unit");
        }
        std::fs::write(image.at("/etc/passwd"), passwd).expect("a file");
        image
    }

    fn at(&self, path: &str) -> PathBuf {
        self.host.root.join(path.strip_prefix('/').expect("an absolute path"))
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn schedule(&self) -> Schedule {
        let user = service_user(&self.read("/etc/passwd"));
        Schedule {
            binary: "/usr/local/bin/uzima-backup".into(),
            config: Some(self.config()),
            // The parents are open, so that no access is missing.
            dir: Some(ServicePath::look(Path::new("/uzima-missing/backups"), user)),
            metrics: None,
            log_file: None,
            secrets: vec![],
            profile: None,
            mails: self.mails,
            oplog: self.oplog,
            copies: false,
            copy_dirs: vec![],
            new_key: None,
        }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    async fn prepared(&self) -> Prepared {
        let flags =
            [("mongo_uri", Raw::Text(NOWHERE.into())), ("dir", Raw::Text("/uzima-missing/backups".into()))];
        let none = |_: &str| None;
        let null = Some(Path::new("/dev/null"));
        let machine = Machine::read(&none);
        let config = Config::load(BTreeMap::from(flags), &none, std::iter::empty(), null, &machine);
        let installed =
            install::installed(&self.host, Scheduler::Systemd, &self.config()).await.expect("it is read");
        let options = InitOptions {
            file: self.config(),
            force: false,
            with_secrets: false,
            signing: false,
            installed: Some(installed),
        };
        let now = "2026-11-30T03:00:00Z".parse().expect("a time");
        prepare(&config.expect("settings"), &none, &options, now).await.expect("a file")
    }

    async fn plan(&self) -> InstallPlan {
        self.plan_of(&self.schedule()).await.unwrap_or_else(|e| panic!("{}", e.chain()))
    }

    async fn plan_of(&self, schedule: &Schedule) -> uzima_backup::base::error::Result<InstallPlan> {
        let prepared = self.prepared().await;
        let none = |_: &str| None;
        let machine = Machine::read(&none);
        let null = Some(Path::new("/dev/null"));
        let config =
            Config::load(BTreeMap::new(), &none, std::iter::empty(), null, &machine).expect("settings");
        install::plan(&self.host, Scheduler::Systemd, &config, &prepared, schedule).await
    }

    /// Plans and installs. Returns the calls.
    async fn install(&self) -> Vec<String> {
        let mut plan = self.plan().await;
        self.prepared().await.write().expect("a file");
        plan.write_settings(&self.host, &Cancel::default()).await.expect("the settings");
        let installed = plan.install_schedule(&self.host, &Cancel::default()).await;
        installed.unwrap_or_else(|e| panic!("{}", e.chain()));
        assert!(plan.steps().all(|step| step.done), "{plan:?}");
        self.programs.calls()
    }
}

fn whats(plan: &InstallPlan) -> Vec<&str> {
    plan.steps().map(|step| step.what.as_str()).collect()
}

#[tokio::test]
async fn the_drop_ins_are_written_and_the_timers_enabled_and_a_second_plan_is_empty() {
    let image = Image::new(true);
    assert_eq!(image.host.scheduler(), Scheduler::Systemd);
    assert_eq!(Host { user: 1000, ..image.host.clone() }.scheduler(), Scheduler::Cron);
    let planned = image.plan().await;
    assert!(!image.at(DROP_IN).exists() && image.programs.calls().is_empty(), "a plan changes nothing");
    let timers = "uzima-backup-backup.timer uzima-backup-cleanup.timer uzima-backup-health.timer";
    assert_eq!(
        whats(&planned),
        [
            &format!("write {}", image.config().display()),
            "run `install -d -o uzima-backup -g uzima-backup -m 0750 /uzima-missing/backups`",
            &format!("write {DROP_IN}"),
            &format!("write {WITHOUT_MAIL}"),
            "run `systemctl daemon-reload`",
            &format!("run `systemctl enable --now {timers}`"),
        ]
    );
    assert!(planned.schedule[1].added.contains(&"ReadWritePaths=/uzima-missing/backups".into()));
    assert_eq!(
        image.install().await,
        [
            "install -d -o uzima-backup -g uzima-backup -m 0750 /uzima-missing/backups",
            "systemctl daemon-reload ",
            &format!("systemctl enable --now {timers}"),
        ]
    );
    let drop_in = image.read(DROP_IN);
    let (note, lines) = drop_in.split_once('\n').expect("lines");
    assert!(note.starts_with("# Written by "), "{drop_in}");
    let credential = format!("LoadCredential=config.toml:{}", image.config().display());
    assert_eq!(lines, format!("[Service]\nReadWritePaths=/uzima-missing/backups\n{credential}\n"));
    assert!(
        image.read(WITHOUT_MAIL).ends_with("[Service]\nExecStart=\nExecStart=/usr/bin/uzima-backup health\n")
    );
    // Only the folder is missing, because its stand-in does not create it.
    assert_eq!(whats(&image.plan().await).len(), 1);
    let own = Schedule { dir: None, config: Some(image.config()), ..image.schedule() };
    let own = image.plan_of(&own).await.expect("a plan");
    assert_eq!(own.schedule[0].removed, ["ReadWritePaths=/uzima-missing/backups"], "a change is shown");
    // The tool's reload of an earlier run failed.
    image.programs.write("stale", "yes\n");
    assert!(whats(&image.plan().await).contains(&"run `systemctl daemon-reload`"));
}

#[tokio::test]
async fn mails_add_the_statistics_and_remove_the_drop_in_without_mail() {
    let mut image = Image::new(true);
    image.install().await;
    image.mails = true;
    let calls = image.install().await;
    assert_eq!(calls[1..], ["systemctl daemon-reload ", "systemctl enable --now uzima-backup-stats.timer"]);
    assert!(!image.at(WITHOUT_MAIL).exists());
    image.mails = false;
    let calls = image.install().await;
    assert_eq!(calls[1..], ["systemctl daemon-reload ", "systemctl disable --now uzima-backup-stats.timer"]);
    // A file that a person wrote is not removed.
    image.mails = true;
    std::fs::write(image.at(WITHOUT_MAIL), "[Service]\n").expect("a file");
    image.install().await;
    assert_eq!(image.read(WITHOUT_MAIL), "[Service]\n");
}

#[tokio::test]
async fn the_timer_of_the_oplog_is_enabled_on_request_and_remembered() {
    let mut image = Image::new(true);
    image.install().await;
    let installed = async |image: &Image| {
        let found = install::installed(&image.host, Scheduler::Systemd, &image.config()).await;
        let found = found.expect("it is read");
        (found.nightly, found.oplog)
    };
    assert_eq!(installed(&image).await, (true, false));
    image.oplog = true;
    let calls = image.install().await;
    assert_eq!(calls[1..], ["systemctl enable --now uzima-backup-oplog.timer"]);
    assert_eq!(installed(&image).await, (true, true));
    image.oplog = false;
    let calls = image.install().await;
    assert_eq!(calls[1..], ["systemctl disable --now uzima-backup-oplog.timer"]);
    assert_eq!(installed(&image).await, (true, false));
}

#[tokio::test]
async fn a_binary_without_a_package_gets_units_and_a_user() {
    let image = Image::new(false);
    let planned = image.plan().await;
    assert!(whats(&planned)[1].starts_with("run `useradd --system --user-group "), "{:?}", whats(&planned));
    image.install().await;
    let folder = "/etc/systemd/system";
    for operation in ["backup", "cleanup", "stats", "health", "oplog"] {
        let service = image.read(&format!("{folder}/uzima-backup-{operation}.service"));
        assert!(
            service.contains(&format!("\nExecStart=/usr/local/bin/uzima-backup {operation}")),
            "{service}"
        );
        image.read(&format!("{folder}/uzima-backup-{operation}.timer"));
    }
    assert!(image.read(WITHOUT_MAIL).ends_with("\nExecStart=/usr/local/bin/uzima-backup health\n"));
    // A unit that somebody changed is kept beside the new one.
    let unit = format!("{folder}/uzima-backup-backup.timer");
    let old = image.read(&unit);
    let edited = old.replace("03:00", "01:00");
    std::fs::write(image.at(&unit), &edited).expect("a file");
    let planned = image.plan().await;
    let step = planned.schedule.iter().find(|step| step.path.as_deref() == Some(Path::new(&unit)));
    let step = step.expect("the unit is replaced");
    assert_eq!(step.removed, ["OnCalendar=*-*-* 01:00:00"]);
    assert_eq!(step.added, ["OnCalendar=*-*-* 03:00:00"]);
    image.install().await;
    assert_eq!((image.read(&unit), image.read(&format!("{unit}.bak"))), (old, edited));
    let home = Schedule { binary: "/home/ann/bin/uzima-backup".into(), ..image.schedule() };
    let error = image.plan_of(&home).await.expect_err("the services do not see it");
    assert!(error.exit().code() == 2 && error.next_step().expect("a step").contains("/usr/local/bin"));
}

#[tokio::test]
async fn a_failed_step_is_named_with_the_steps_before_it_and_the_next_run_goes_on() {
    let image = Image::new(true);
    image.programs.write("refuse", "enable");
    let mut plan = image.plan().await;
    image.prepared().await.write().expect("a file");
    plan.write_settings(&image.host, &Cancel::default()).await.expect("the settings");
    let error = plan.install_schedule(&image.host, &Cancel::default()).await.expect_err("it is refused");
    let said = error.chain();
    for words in [
        "step 6 of 6, run `systemctl enable --now ",
        &format!("failed; done before it: write {}; run `install -d ", image.config().display()),
        &format!("; write {DROP_IN}; "),
        "exit status: 1: Failed to enable unit",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let step = error.next_step().expect("a step");
    assert!(step.contains(&format!("to go back: rm {WITHOUT_MAIL}; rm {DROP_IN}; rmdir ")), "{step}");
    std::fs::remove_file(image.programs.file("refuse")).expect("a file");
    image.programs.calls();
    let calls = image.install().await;
    assert!(calls.len() == 2 && calls[1].starts_with("systemctl enable --now "), "{calls:?}");
    // A signal ends it between two steps.
    let image = Image::new(true);
    let (cancel, mut plan) = (Cancel::default(), image.plan().await);
    cancel.by_signal(15);
    let error = plan.install_schedule(&image.host, &cancel).await.expect_err("it is ended");
    assert_eq!(error.exit().code(), 143);
    assert!(image.programs.calls().is_empty() && !image.at(DROP_IN).exists());
}

#[tokio::test]
async fn the_crontab_of_root_is_mentioned_and_secrets_stay_in_their_files() {
    let image = Image::new(true);
    image.programs.write("tab", "0 3 * * * uzima-backup backup --quiet\n");
    let secret = image.folder.path().join("my 100% uri");
    std::fs::write(&secret, "mongodb://backup:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=300\n")
        .expect("a file");
    std::fs::create_dir_all(image.at(DROP_IN).parent().expect("a folder")).expect("a folder");
    let line = format!("LoadCredential=mongo_uri:{}", secret.display().to_string().replace('%', "%%"));
    std::fs::write(image.at(DROP_IN), format!("[Service]\n{line}\n")).expect("a file");
    // The secret of the earlier installation stays, although this environment does not name it.
    let left_out = image.prepared().await.left_out().to_vec();
    assert_eq!(left_out.len(), 1);
    assert_eq!((left_out[0].variable.as_str(), &left_out[0].file), ("MONGO_URI_FILE", &secret));
    let schedule = Schedule { secrets: left_out, ..image.schedule() };
    let plan = image.plan_of(&schedule).await.expect("a plan");
    assert!(plan.notes[0].contains("0 3 * * * uzima-backup backup"), "{:?}", plan.notes);
    assert!(!format!("{plan:?}").contains("hunter2"));
    let step = plan
        .schedule
        .iter()
        .find(|step| step.path.as_deref() == Some(Path::new(DROP_IN)))
        .expect("it changes");
    assert!(!step.removed.contains(&line), "{step:?}");
    assert!(step.added.contains(&"Environment=MONGO_URI_FILE=%d/mongo_uri".into()), "{step:?}");
}

/// `systemd-analyze` accepts the installed units.
#[tokio::test]
async fn systemd_understands_the_installed_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!(
            "SKIPPED init_install::systemd::systemd_understands_the_installed_units: no systemd-analyze"
        );
        return;
    }
    let image = Image::new(false);
    image.install().await;
    let folder = image.at("/etc/systemd/system");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).env("SYSTEMD_UNIT_PATH", format!("{}:", folder.display()));
    for operation in ["backup", "cleanup", "stats", "health", "oplog"] {
        for end in ["service", "timer"] {
            let unit = folder.join(format!("uzima-backup-{operation}.{end}"));
            let text = std::fs::read_to_string(&unit).expect("a unit");
            // It checks that the program exists.
            std::fs::write(&unit, text.replace("/usr/local/bin/uzima-backup", TOOL)).expect("a file");
            verify.arg(unit);
        }
    }
    let ran = run(&mut verify);
    let ours: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.contains("uzima-backup") && !line.contains("/usr/local/bin"))
        .collect();
    assert_eq!(ours, Vec::<&str>::new());
}
