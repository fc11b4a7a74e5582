//! `init --install`: a plan of every file and command that starts the nightly runs on this machine, and its execution.
//!
//! A plan holds only what this machine lacks, so a second run has nothing to do, and a run after a failure goes on where
//! the first one stopped. Files are replaced whole, and the crontab is written by `crontab -`, which does the same.

mod cron;
mod systemd;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::schedule::Schedule;
use super::{LeftOut, Prepared, file, secret_value};
use crate::base::beneath::{Folder, read_named};
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::escape::quoted;
use crate::base::files;
use crate::base::process::{self, Ended};
use crate::config::Config;

/// How long a program may take. `systemctl enable --now` waits for the timers.
const LIMIT: Duration = Duration::from_secs(90);
/// Folders with the programs of a system, because a user's PATH may lack `sbin`.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// The largest file that a step replaces, in bytes.
const LARGEST: u64 = 1 << 20;

/// What starts the nightly runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    Systemd,
    Cron,
}

/// The machine on which a schedule is installed.
#[derive(Debug, Clone)]
pub struct Host {
    /// The folder in which this machine's files are: `/`, or the image of a machine.
    pub root: PathBuf,
    /// The value of `PATH`.
    pub search_path: Option<String>,
    /// The user of this process.
    pub user: u32,
}

impl Host {
    /// This machine.
    pub fn this(search_path: Option<String>) -> Host {
        Host { root: "/".into(), search_path, user: rustix::process::geteuid().as_raw() }
    }

    /// Systemd's timers for root on a machine that systemd started (sd_booted(3)), else the user's crontab.
    pub fn scheduler(&self) -> Scheduler {
        match self.user == 0 && self.is_booted() {
            true => Scheduler::Systemd,
            false => Scheduler::Cron,
        }
    }

    fn is_booted(&self) -> bool {
        self.at("/run/systemd/system").is_dir()
    }

    /// Where a path of the machine is.
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The user's name, for people.
    fn user_name(&self) -> String {
        let passwd = fs::read_to_string(self.at("/etc/passwd")).unwrap_or_default();
        let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let user = self.user.to_string();
        let found = fields.into_iter().find(|fields| fields.get(2).is_some_and(|id| *id == user));
        found.map_or_else(|| format!("user {user}"), |fields| fields[0].to_string())
    }

    fn locate(&self, name: &str) -> Option<PathBuf> {
        process::locate(name, self.search_path.as_deref(), &FOLDERS)
    }

    /// Runs a program of the system.
    ///
    /// # Errors
    /// Returns an error if it is missing, if other users can change it, or if it does not end in time.
    async fn run(&self, name: &str, args: &[&str], input: &[u8]) -> Result<Ended> {
        let program = self.locate(name).ok_or_else(|| {
            Error::failed(format!("there is no program {name} in PATH")).hint(match name {
                "crontab" => "Install a cron, such as Debian's package `cron`, which has it",
                "setfacl" => "Install the package `acl`, which has it",
                _ => "Install it, or add its folder to PATH",
            })
        })?;
        process::trusted(&program).map_err(Error::failed)?;
        let ended = process::run(&program, args, input, LIMIT).await;
        ended.map_err(|e| Error::failed(format!("{} could not be run", program.display())).caused_by(e))
    }

    /// The text of a file; `None` if it is missing.
    ///
    /// # Errors
    /// Returns an error if it exists and cannot be read.
    fn read(&self, path: &Path) -> Result<Option<String>> {
        Ok(self.read_bytes(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The bytes of a file; `None` if it is missing.
    fn read_bytes(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        match read_named(&self.at(path), LARGEST) {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::failed(format!("cannot read {}", path.display())).caused_by(e)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Writes the configuration file.
    Settings,
    /// Writes a secret to a file of its own.
    Secret,
    /// Writes or replaces a file.
    File,
    Remove,
    Command,
    /// Changes the block of the tool in the user's crontab.
    Crontab,
}

/// A change of the machine.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Step {
    pub kind: StepKind,
    /// What the step does, in one line without secrets.
    pub what: String,
    /// The file that changes.
    pub path: Option<PathBuf>,
    /// The permissions of the file in octal.
    pub mode: Option<String>,
    /// The owner of the file.
    pub owner: Option<String>,
    /// The lines that the file or the crontab loses.
    pub removed: Vec<String>,
    /// The lines that the file or the crontab gains, without secrets.
    pub added: Vec<String>,
    /// The words of the command.
    pub command: Vec<String>,
    pub done: bool,
    /// The command or advice that undoes the step.
    #[serde(skip)]
    undo: String,
    /// The content of the file or the crontab before the step; `None` for a missing file.
    #[serde(skip)]
    before: Option<Vec<u8>>,
    /// The content after it.
    #[serde(skip)]
    after: Vec<u8>,
}

impl Step {
    fn new(kind: StepKind, what: String, undo: String) -> Step {
        let (removed, added, command) = (Vec::new(), Vec::new(), Vec::new());
        let (path, mode, owner) = (None, None, None);
        let (before, after, done) = (None, Vec::new(), false);
        Step { kind, what, path, mode, owner, removed, added, command, done, undo, before, after }
    }

    fn command(words: Vec<String>, undo: String) -> Step {
        let shell = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        Step { command: words, ..Step::new(StepKind::Command, format!("run `{shell}`"), undo) }
    }

    /// A step after which a file of root has this content, or is missing. `None` if it is so already.
    fn file(host: &Host, path: &Path, after: Option<&str>) -> Result<Option<Step>> {
        let before = host.read_bytes(path)?;
        if before.as_deref() == after.map(str::as_bytes) {
            return Ok(None);
        }
        let shown = path.display();
        let undo = match &before {
            None => format!("rm {shown}"),
            Some(_) => format!("mv {shown}.bak {shown}"),
        };
        let what = match (&before, after) {
            (_, None) => format!("remove {shown}, and keep a copy, {shown}.bak"),
            (None, _) => format!("write {shown}"),
            (Some(_), _) => format!("replace {shown}, and keep a copy, {shown}.bak"),
        };
        let kind = if after.is_some() { StepKind::File } else { StepKind::Remove };
        let old = String::from_utf8_lossy(before.as_deref().unwrap_or_default());
        let (removed, added) = changed(&old, after.unwrap_or_default());
        Ok(Some(Step {
            path: Some(path.to_path_buf()),
            mode: after.map(|_| "0644".into()),
            owner: after.map(|_| host.user_name()),
            removed,
            added,
            before,
            after: after.unwrap_or_default().into(),
            ..Step::new(kind, what, undo)
        }))
    }
}

/// The lines of two texts that the other one lacks: removed and added ones.
fn changed(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let lacking = |lines: &[&str], other: &[&str]| -> Vec<String> {
        lines.iter().filter(|line| !other.contains(line)).map(ToString::to_string).collect()
    };
    (lacking(&old, &new), lacking(&new, &old))
}

/// Everything that an installation changes, in order.
#[derive(Debug, JsonSchema, Serialize)]
pub struct InstallPlan {
    pub scheduler: Scheduler,
    /// The steps up to the trial of the settings: the configuration file and the files of secrets.
    pub settings: Vec<Step>,
    /// The steps after the trial.
    pub schedule: Vec<Step>,
    /// What a person should know about the schedule, in lines.
    pub notes: Vec<String>,
}

/// An earlier installation for a configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// The variables that it passes to its jobs, with their values.
    pub variables: Vec<(String, String)>,
    /// True if it starts the nightly runs.
    pub nightly: bool,
    /// True if it stores the oplog.
    pub oplog: bool,
}

/// Looks for an earlier installation.
///
/// # Errors
/// Returns an error if the crontab or the units cannot be read.
pub async fn installed(host: &Host, scheduler: Scheduler, file: &Path) -> Result<Installed> {
    match scheduler {
        Scheduler::Cron => cron::installed(host, file).await,
        Scheduler::Systemd => systemd::installed(host).await,
    }
}

/// Plans an installation, and changes nothing. `config` has the secrets of the environment.
///
/// # Errors
/// Returns an error if the schedule cannot be installed in this way, or if the machine's files cannot be read.
pub async fn plan(
    host: &Host,
    scheduler: Scheduler,
    config: &Config,
    prepared: &Prepared,
    schedule: &Schedule,
) -> Result<InstallPlan> {
    check_paths(schedule, &prepared.file)?;
    let settings = settings(host, config, prepared)?;
    let (schedule, notes) = match scheduler {
        Scheduler::Cron => cron::plan(host, schedule, &prepared.file).await?,
        Scheduler::Systemd => systemd::plan(host, schedule).await?,
    };
    Ok(InstallPlan { scheduler, settings, schedule, notes })
}

/// # Errors
/// Returns an error if a path cannot stand in a line of a crontab or a unit.
fn check_paths(schedule: &Schedule, file: &Path) -> Result<()> {
    let secrets = schedule.secrets.iter().map(|secret| secret.file.as_path());
    let paths = secrets.chain([file, &schedule.binary]).chain(schedule.paths());
    for path in paths {
        match path.to_str() {
            Some(text) if !text.contains(char::is_control) => {}
            _ => {
                return Err(Error::usage(format!(
                    "{} cannot be in a schedule: it is not UTF-8, or has control characters",
                    path.display()
                ))
                .hint("Rename it"));
            }
        }
    }
    Ok(())
}

fn settings(host: &Host, config: &Config, prepared: &Prepared) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    if prepared.text.is_some() {
        let shown = prepared.file.display();
        let (mode, owner, what) = match fs::metadata(&prepared.file) {
            Ok(old) => {
                (old.mode() & 0o770, old.uid(), format!("replace {shown}, and keep a copy if it was edited"))
            }
            Err(_) => (0o600, host.user, format!("write {shown}")),
        };
        steps.push(Step {
            path: Some(prepared.file.clone()),
            mode: Some(format!("{mode:04o}")),
            owner: Some(Host { user: owner, ..host.clone() }.user_name()),
            added: prepared.lines(),
            ..Step::new(StepKind::Settings, what, format!("rm {shown}, or put its .bak file back"))
        });
    }
    if let Some(key) = &prepared.new_key {
        let shown = key.file.display();
        steps.push(Step {
            path: Some(key.file.clone()),
            mode: Some("0600".into()),
            owner: Some(host.user_name()),
            added: vec!["(a new secret key, which is not shown)".into()],
            ..Step::new(
                StepKind::Settings,
                format!("write {shown}, a new signing key"),
                format!("rm {shown}"),
            )
        });
    }
    for left_out in prepared.left_out.iter().filter(|secret| !secret.there) {
        let (variable, path) = (left_out.variable.trim_end_matches("_FILE"), &left_out.file);
        let Some(value) = secret_value(config, left_out) else { continue };
        match file::secret(path) {
            Some(text) if text == value => continue,
            None if !path.exists() => {}
            _ => {
                return Err(Error::usage(format!(
                    "{} exists, and does not hold the value of {variable}",
                    path.display()
                ))
                .hint(format!(
                    "Set {}={} instead of {variable} to use that file, or delete it",
                    left_out.variable,
                    path.display()
                )));
            }
        }
        steps.push(Step {
            path: Some(path.clone()),
            mode: Some("0600".into()),
            owner: Some(host.user_name()),
            added: vec![format!("(the value of {variable}, which is not shown)")],
            after: format!("{value}\n").into_bytes(),
            ..Step::new(
                StepKind::Secret,
                format!("write {}", path.display()),
                format!("rm {}", path.display()),
            )
        });
    }
    Ok(steps)
}

impl InstallPlan {
    /// Returns true if this machine has everything already.
    pub fn is_empty(&self) -> bool {
        self.steps().next().is_none()
    }

    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.settings.iter().chain(&self.schedule)
    }

    /// Writes the files of secrets. The configuration file is written by [`Prepared::write`], before.
    ///
    /// # Errors
    /// Returns an error that names the failed step, the steps before it, and how to go on.
    pub async fn write_settings(&mut self, host: &Host, cancel: &Cancel) -> Result<()> {
        for step in self.settings.iter_mut().filter(|step| step.kind == StepKind::Settings) {
            step.done = true;
        }
        self.run(host, cancel, false).await
    }

    /// Carries the steps of the schedule out.
    ///
    /// # Errors
    /// As [`InstallPlan::write_settings`]. No step is half done: a file or the crontab has its old or its new content.
    pub async fn install_schedule(&mut self, host: &Host, cancel: &Cancel) -> Result<()> {
        self.run(host, cancel, true).await
    }

    async fn run(&mut self, host: &Host, cancel: &Cancel, schedule: bool) -> Result<()> {
        let (settings, count) = (self.settings.len(), self.settings.len() + self.schedule.len());
        for index in if schedule { settings..count } else { 0..settings } {
            let Some(step) = self.steps().nth(index).filter(|step| !step.done) else { continue };
            let outcome = match cancel.error_with("the step did not begin") {
                Some(error) => Err(error),
                None => step.carry_out(host).await,
            };
            if let Err(error) = outcome {
                return Err(self.stopped(error, index, count));
            }
            let step = self.settings.iter_mut().chain(&mut self.schedule).nth(index);
            step.into_iter().for_each(|step| step.done = true);
        }
        Ok(())
    }

    /// Wraps the error of a step: which one, what was done before it, and how to go on or back.
    fn stopped(&self, error: Error, index: usize, count: usize) -> Error {
        let step = self.steps().nth(index).map(|step| step.what.clone()).unwrap_or_default();
        let done: Vec<&Step> = self.steps().filter(|step| step.done).collect();
        let before = match done.is_empty() {
            true => "nothing was changed before it".to_string(),
            false => format!(
                "done before it: {}",
                done.iter().map(|step| step.what.as_str()).collect::<Vec<_>>().join("; ")
            ),
        };
        let undo: Vec<&str> =
            done.iter().rev().map(|step| step.undo.as_str()).filter(|undo| !undo.is_empty()).collect();
        let mut hint = error.next_step().map(|step| format!("{step}. ")).unwrap_or_default();
        hint.push_str("The same `init --install` goes on from there");
        if !undo.is_empty() {
            hint.push_str(&format!("; to go back: {}", undo.join("; ")));
        }
        let message = format!("step {} of {count}, {step}, failed; {before}", index + 1);
        Error::new(error.kind(), message).caused_by(error).hint(hint)
    }
}

impl Step {
    async fn carry_out(&self, host: &Host) -> Result<()> {
        let path = self.path.as_deref().unwrap_or(Path::new("/"));
        let fail = |e: io::Error| Error::failed(format!("cannot write {}", path.display())).caused_by(e);
        match self.kind {
            StepKind::Settings => Ok(()),
            StepKind::Secret => files::create(path, &self.after, 0o600).map_err(fail),
            StepKind::File => {
                self.check_unchanged(host, path)?;
                let file = host.at(path);
                fs::create_dir_all(file.parent().unwrap_or(Path::new("/"))).map_err(fail)?;
                self.keep_copy(&file).map_err(fail)?;
                files::replace(&file, &self.after, 0o644).map_err(fail)?;
                Folder::of_file(&file).and_then(|(folder, _)| folder.sync()).map(drop).map_err(fail)
            }
            StepKind::Remove => {
                self.check_unchanged(host, path)?;
                let file = host.at(path);
                self.keep_copy(&file).map_err(fail)?;
                fs::remove_file(&file).map_err(fail)
            }
            StepKind::Command => {
                let args: Vec<&str> = self.command[1..].iter().map(String::as_str).collect();
                let ended = host.run(&self.command[0], &args, b"").await?;
                match ended.status.success() {
                    true => Ok(()),
                    false => Err(Error::failed(ended.why())),
                }
            }
            StepKind::Crontab => cron::write(host, self.before.as_deref(), &self.after).await,
        }
    }

    /// # Errors
    /// Returns an error if the file is not as it was when the plan was made.
    fn check_unchanged(&self, host: &Host, path: &Path) -> Result<()> {
        match host.read_bytes(path)? == self.before {
            true => Ok(()),
            false => Err(Error::failed(format!("{} was changed since the plan was made", path.display()))),
        }
    }

    /// Keeps the old content beside the file, for a person who edited it.
    fn keep_copy(&self, file: &Path) -> io::Result<()> {
        let Some(before) = &self.before else { return Ok(()) };
        let mut copy = file.as_os_str().to_owned();
        copy.push(".bak");
        files::replace(Path::new(&copy), before, 0o644)
    }
}

/// The secrets that exist in files once the settings are written.
pub fn written(secrets: &[LeftOut]) -> Vec<LeftOut> {
    secrets.iter().map(|secret| LeftOut { there: true, ..secret.clone() }).collect()
}
