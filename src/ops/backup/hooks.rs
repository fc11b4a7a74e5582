//! The hooks: programs of the administrator that run before and after a backup, under its lock.
//!
//! A hook gets facts about the run in variables, and nothing else of this process: no secret is in its arguments or its
//! environment. Its output goes to the log, without secrets and up to a limit. If the hook before the backup fails, no backup
//! is made. The hook after it runs in any case, so that both can be a pair such as stopping and starting a service.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::BackupReport;
use crate::base::cancel::{Cancel, LastStep};
use crate::base::child_group::{self, GroupEnd};
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::exit::Exit;
use crate::base::process::{self, Kills};
use crate::base::progress::{Meter, Phase};
use crate::base::secret::Redactor;
use crate::catalog::layout;
use crate::config::JobSettings;
use crate::config::hooks::{HookCommand, HookMoment, Hooks};
use crate::model::id::BackupId;
use crate::mongo::notes::Notes;
use crate::notify::run::Run;

/// The PATH of a hook if this process has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a hook may take to end after SIGTERM: when its time is over, and when a signal ends the run.
const GRACE: Duration = Duration::from_secs(10);
const GRACE_AFTER_SIGNAL: Duration = Duration::from_secs(1);

/// The most output of a hook that is logged, in lines and in characters, and the longest line.
const MOST_LINES: usize = 1_000;
const MOST_CHARACTERS: usize = 200_000;
const LONGEST_LINE: usize = 2_000;

/// The longest value of a variable in characters. The kernel refuses one of 128 KiB.
const LONGEST_VALUE: usize = 8_000;

/// The hooks of one run.
#[derive(Debug, Clone, Default)]
pub struct Hooked {
    /// The failure of the hook before the backup, which the run ends with.
    pub(super) prevented: Option<Error>,
    pub(super) after: Option<RunHooks>,
}

/// A hook that a backup would run. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct PlannedHook {
    /// `before_backup` or `after_backup`.
    pub name: &'static str,
    /// The program and its arguments.
    pub command: Vec<String>,
}

impl PlannedHook {
    pub fn all(hooks: &Hooks, redactor: &Redactor) -> Vec<PlannedHook> {
        let words = |hook: &HookCommand| hook.words().iter().map(|word| redactor.clean(word)).collect();
        hooks.all().map(|(moment, hook)| PlannedHook { name: moment.word(), command: words(hook) }).collect()
    }
}

/// Runs the hooks of a run.
#[derive(Debug, Clone)]
pub(super) struct RunHooks {
    hooks: Hooks,
    job: String,
    host: String,
    partial: bool,
    redactor: Redactor,
    cancel: Cancel,
    clock: Clock,
    meter: Arc<Meter>,
}

/// The variables of a hook.
type Facts = Vec<(&'static str, String)>;

impl RunHooks {
    pub(super) fn new(run: &Run<'_>, settings: &JobSettings, hooks: Hooks, meter: &Arc<Meter>) -> RunHooks {
        RunHooks {
            hooks,
            job: settings.job.clone(),
            host: settings.host.clone(),
            partial: settings.partial,
            redactor: run.config.redactor.clone(),
            cancel: run.cancel.clone(),
            clock: run.clock,
            meter: meter.clone(),
        }
    }

    /// Runs the hook before the backup.
    ///
    /// # Errors
    /// Returns an error if the hook fails, or if a signal ends it.
    pub(super) async fn before(&self) -> Result<()> {
        let Some(hook) = &self.hooks.before else { return Ok(()) };
        let stop = self.cancel.token().cancelled();
        let facts = vec![("STATUS", "started".into())];
        let failed = self.run(HookMoment::Before, hook, facts, stop).await;
        if let Some(error) = self.cancel.error() {
            return Err(error);
        }
        failed.map_err(|why| {
            Error::failed(why).hint(format!(
                "No backup was made. The log has the hook's output; run {} by hand to find the cause",
                hook.program.display()
            ))
        })
    }

    /// Runs the hook after a backup. If it fails, the report of the backup has a problem, and a failed run has a note.
    pub(super) async fn after(
        &self,
        outcome: &mut Result<BackupReport>,
        last: Option<&BackupId>,
        notes: &Notes,
    ) {
        match outcome {
            Ok(report) => {
                let problem = self.follow(self.facts_of(report)).await;
                problem.iter().for_each(|problem| log::warn!("{problem}"));
                report.problems.extend(problem.clone());
                report.hook_problem = problem;
            }
            Err(error) => {
                if let Some(problem) = self.after_failure(error, last).await {
                    notes.add(problem);
                }
            }
        }
    }

    /// Runs the hook after a run that failed. `last` is the id of its last attempt. Returns the problem if the hook fails.
    pub(super) async fn after_failure(&self, error: &Error, last: Option<&BackupId>) -> Option<String> {
        let mut facts = vec![
            ("STATUS", "failed".into()),
            ("EXIT_CODE", error.exit().code().to_string()),
            ("ERROR", error.chain()),
            ("SECONDS", self.seconds(self.clock.now())),
        ];
        facts.extend(last.map(|id| ("ID", id.to_string())));
        self.follow(facts).await
    }

    async fn follow(&self, facts: Facts) -> Option<String> {
        let hook = self.hooks.after.as_ref()?;
        // The hook may have to start a service again, so that a signal leaves it some time.
        let stop = async {
            self.cancel.token().cancelled().await;
            tokio::time::sleep(self.cancel.left(LastStep::Hook).unwrap_or_default()).await;
        };
        self.run(HookMoment::After, hook, facts, stop).await.err()
    }

    fn facts_of(&self, report: &BackupReport) -> Facts {
        let (exit, facts) = (report.exit(), &report.facts);
        let status = if exit == Exit::Done { "done" } else { "needs-look" };
        vec![
            ("STATUS", status.into()),
            ("EXIT_CODE", exit.code().to_string()),
            ("ID", report.id.to_string()),
            ("PLACE", facts.place.clone()),
            ("MANIFEST", layout::manifest(&report.id)),
            ("NAMESPACES", facts.namespaces.to_string()),
            ("DOCUMENTS", facts.documents.to_string()),
            ("RAW_BYTES", facts.raw_bytes.to_string()),
            ("STORED_BYTES", facts.stored_bytes.to_string()),
            ("SECONDS", self.seconds(self.clock.now())),
        ]
    }

    fn seconds(&self, now: DateTime<Utc>) -> String {
        (now - self.clock.started()).num_seconds().to_string()
    }

    /// Runs a hook to its end. An error is the problem in words.
    async fn run(
        &self,
        moment: HookMoment,
        hook: &HookCommand,
        facts: Facts,
        stop: impl Future<Output = ()>,
    ) -> Result<(), String> {
        self.meter.enter(Phase::Hook);
        let name = moment.word();
        log::info!("running the hook {name}: {}", hook.program.display());
        let command = self.command(moment, hook, facts);
        let mut output = HookOutput { name, redactor: &self.redactor, lines: 0, characters: 0, last: None };
        let grace = async {
            tokio::select! {
                () = tokio::time::sleep(GRACE) => {}
                () = self.cancel.token().cancelled() => tokio::time::sleep(GRACE_AFTER_SIGNAL).await,
            }
        };
        let kills = Kills::watch();
        let ended = child_group::run(command, self.hooks.limit, stop, grace, |line| output.take(line)).await;
        let how = match ended {
            Ok(GroupEnd::Exited(status)) if status.success() => return Ok(()),
            Ok(GroupEnd::Exited(status)) => failure(status, kills),
            Ok(GroupEnd::Late) => format!(
                "did not end within {} s and was killed (hooks.timeout, BACKUP_HOOK_TIMEOUT)",
                self.hooks.limit.as_secs()
            ),
            Ok(GroupEnd::Stopped) => "was ended, because a signal ended the run".into(),
            Err(e) => format!("cannot be run: {e}"),
        };
        let last = output.last.map(|line| format!("; its last line: {line}")).unwrap_or_default();
        Err(format!("the hook {name} ({}) {how}{last}", hook.program.display()))
    }

    /// The command, with an environment that has only the facts and a few variables of this process.
    fn command(&self, moment: HookMoment, hook: &HookCommand, facts: Facts) -> Command {
        let mut command = Command::new(&hook.program);
        command.args(&hook.args).current_dir("/").env_clear().env("PATH", PATH);
        command.envs(self.hooks.environment.iter().map(|(name, value)| (name, value)));
        let of_run = [
            ("HOOK", moment.word().to_string()),
            ("JOB", self.job.clone()),
            ("HOST", self.host.clone()),
            ("PARTIAL", self.partial.to_string()),
        ];
        for (name, value) in of_run.into_iter().chain(facts) {
            let value = self.redactor.clean(&value);
            let value: String = escape::line(&value).chars().take(LONGEST_VALUE).collect();
            command.env(format!("UZIMA_{name}"), value);
        }
        command
    }
}

/// How a hook failed, in words.
fn failure(status: ExitStatus, kills: Kills) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            let why = process::why_killed(signal, kills).map(|(why, _)| format!(": {why}"));
            format!("was killed by signal {signal}{}", why.unwrap_or_default())
        }
    }
}

/// Logs the output of a hook.
struct HookOutput<'a> {
    name: &'static str,
    redactor: &'a Redactor,
    lines: usize,
    characters: usize,
    /// The last line that is not empty.
    last: Option<String>,
}

impl HookOutput<'_> {
    fn is_full(&self) -> bool {
        self.lines > MOST_LINES || self.characters > MOST_CHARACTERS
    }

    fn take(&mut self, line: &str) {
        // The line is cut after it is cleaned, so that no part of a secret remains at its end.
        let cleaned = self.redactor.clean(line);
        let whole = escape::line(&cleaned);
        let mut shown: String = whole.chars().take(LONGEST_LINE).collect();
        if shown.len() < whole.len() {
            shown.push('…');
        }
        let (name, was_full) = (self.name, self.is_full());
        self.lines += 1;
        self.characters += shown.chars().count();
        match (was_full, self.is_full()) {
            (_, false) => log::info!("{name}: {shown}"),
            (false, true) => {
                log::warn!("the hook {name} prints more than the log takes; the rest is left out")
            }
            (true, true) => {}
        }
        if !shown.trim().is_empty() {
            self.last = Some(shown);
        }
    }
}
