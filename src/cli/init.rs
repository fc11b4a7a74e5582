//! `uzima-backup init`: writes the configuration file, tries it, and installs the schedule.

mod questions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use log::Level;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use super::args::InitArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::{ask, health, units};
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::config::place::FIRST;
use crate::config::place::Place;
use crate::config::{Config, DEFAULT_FILE, Origin};
use crate::config::{Env, named_file};
use crate::notify::run::Run;
use crate::ops::health::{CheckOutcome, CheckRow, HealthOptions, HealthReport as Health, run_health};
use crate::ops::init::install::{self, Host, InstallPlan, Scheduler, Step, StepKind};
use crate::ops::init::oplog::{self, OplogOffer};
use crate::ops::init::schedule::{Schedule, ServicePath, service_user};
use crate::ops::init::{self, InitOptions, InitReport, LeftOut, NewKey, Prepared};
use questions::{KEYS, TRUST, ask_copy, ask_recipients, ask_signing, choose_oplog};

/// The width of texts that are not made of commands.
const WIDTH: usize = 80;

/// The state of the machine before the confirmation.
const UNCHANGED: &str = "nothing was changed";

/// `config` holds flags and environment; `file` is the flag that names the file to write.
pub async fn run(
    args: &InitArgs,
    file: Option<&Path>,
    run: &Run<'_>,
    output: &Output,
    log: &Log,
) -> Result<Exit> {
    let (config, cancel) = (run.config, run.cancel);
    let env: Env<'_> = &|name| std::env::var_os(name);
    let file = absolute(named_file(env, file)?.unwrap_or_else(|| DEFAULT_FILE.into()))?;
    // Up to the confirmation, nothing changes.
    let unchanged = |error: Error| match error.kind() {
        Kind::Signal(_) => cancel.error_with(UNCHANGED).unwrap_or(error),
        _ => error,
    };
    let host = Host::this(config.machine.search_path.clone());
    let scheduler = scheduler(args, &host);
    let mut options = InitOptions {
        file: file.clone(),
        force: args.force,
        with_secrets: args.with_secrets,
        signing: false,
        installed: None,
    };
    if let Some(scheduler) = scheduler {
        let installed = cancel.or(install::installed(&host, scheduler, &file)).await;
        options.installed = Some(installed.map_err(unchanged)?);
    }
    let kept = options.keeps_file();
    check_flags(args, config)?;
    let asked = match kept {
        true => None,
        false => ask_recipients(args, &options, run).await?,
    };
    let config = asked.as_ref().unwrap_or(config);
    let asked = match kept {
        true => None,
        false => ask_signing(args, &mut options, config, run).await?,
    };
    let config = asked.as_ref().unwrap_or(config);
    let asked = match kept {
        true => None,
        false => ask_copy(args, &options, config, run).await?,
    };
    let config = asked.as_ref().unwrap_or(config);
    let run = &Run { config, log: run.log.clone(), new_id: run.new_id.clone(), ..*run };
    if !kept {
        check_settings(config)?;
    }
    let prepared =
        cancel.or(init::prepare(config, env, &options, run.clock.now())).await.map_err(unchanged)?;
    // The settings of the nightly runs: those of a file that stays, or those that are about to be written.
    let of_file = kept.then(|| load(&file, prepared.left_out(), env, config)).transpose()?;
    let nightly = of_file.as_ref().unwrap_or(config);
    let (place, mails) = check_settings(nightly)?;
    let (oplog, offer) = choose_oplog(args, &options, nightly, run).await?;
    let schedule = schedule(nightly, &options, &prepared, &place, mails, oplog);
    let mut plan = match scheduler {
        Some(scheduler) => {
            let plan = cancel.or(install::plan(&host, scheduler, config, &prepared, &schedule)).await;
            Some(plan.map_err(unchanged)?)
        }
        None => None,
    };
    if let (Some(plan), Some(offer)) = (&mut plan, offer.as_ref().filter(|offer| offer.scheduled)) {
        plan.notes.extend(offer.words());
    }
    let recipients = nightly.job.as_ref()?.recipients.as_ref().map_or(0, |keys| keys.fingerprints().len());
    let offers_encryption = !args.no_encryption;
    let init = Init { file, prepared, schedule, host, recipients, offers_encryption };
    if let Some(plan) = &mut plan {
        if plan.is_empty() || args.dry_run {
            init.print(None, None, Some(plan), offer.as_ref(), output);
            return Ok(Exit::Done);
        }
        confirm(args, plan, run).await?;
    }
    init.carry_out(plan, env, run, output, log).await
}

/// How the schedule is installed; `None` without `--install`.
fn scheduler(args: &InitArgs, host: &Host) -> Option<Scheduler> {
    args.install.as_deref().map(|how| match how {
        "systemd" => Scheduler::Systemd,
        "cron" => Scheduler::Cron,
        _ => host.scheduler(),
    })
}

/// # Errors
/// Returns an error if the plan was not confirmed.
async fn confirm(args: &InitArgs, plan: &InstallPlan, run: &Run<'_>) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    if !ask::at_terminal() {
        return Err(Error::usage(
            "init --install changes this machine, and there is no terminal to ask for confirmation",
        )
        .hint("Check the plan with --dry-run, then add --yes"));
    }
    let question = format!("{}Do this? [y/N] ", plan_text(plan));
    ask::confirm(&question, "not installed", UNCHANGED, run.cancel).await
}

/// A prepared configuration file and its schedule.
struct Init {
    file: PathBuf,
    prepared: Prepared,
    schedule: Schedule,
    host: Host,
    /// How many keys decrypt the backups; 0 if they are not encrypted.
    recipients: usize,
    /// True if the text explains encryption to somebody who has none.
    offers_encryption: bool,
}

impl Init {
    /// Writes the file, tries it and, with a plan, installs the schedule.
    async fn carry_out(
        &self,
        mut plan: Option<InstallPlan>,
        env: Env<'_>,
        run: &Run<'_>,
        output: &Output,
        log: &Log,
    ) -> Result<Exit> {
        let shown = self.file.display().to_string();
        let report = self.prepared.write()?;
        let did = if self.prepared.is_kept() { "kept" } else { "wrote" };
        let mut secrets = report.left_out.clone();
        if let Some(plan) = &mut plan {
            plan.write_settings(&self.host, run.cancel).await?;
            secrets = install::written(&secrets);
        }
        log::info!("{did} {shown}; trying it, which takes half a minute or more if a server does not answer");
        let tried = try_file(&self.file, &secrets, env, run).await.map_err(|e| match e.kind() {
            Kind::Signal(_) if plan.is_some() => {
                e.hint(format!("{shown} is written: the same `init --install` goes on from there"))
            }
            Kind::Signal(_) => e.hint(format!(
                "{shown} is written: continue with `{}`; `uzima-backup init --install` installs the schedule",
                self.schedule.command("health")
            )),
            _ => e,
        })?;
        let (health, offer) = tried;
        let offer = offer.map(|offer| OplogOffer { scheduled: self.schedule.oplog, ..offer });
        log.append(Level::Info, &health::report_text(&health));
        if let Some(plan) = plan.as_mut().filter(|_| store_works(&health)) {
            plan.install_schedule(&self.host, run.cancel).await?;
        }
        self.print(Some(&report), Some(&health), plan.as_ref(), offer.as_ref(), output);
        health::print_failed(&health, output);
        if health.exit() != Exit::Done {
            let then = match &plan {
                Some(_) if !store_works(&health) => "run the same `init --install` again".to_string(),
                _ => format!("run `{}`", self.schedule.command("health")),
            };
            output::print_line(&format!("{shown} is kept: correct what failed, then {then}"));
        }
        Ok(health.exit())
    }
}

/// Checks the flags, also if the settings of an existing file are used.
fn check_flags(args: &InitArgs, config: &Config) -> Result<()> {
    config.layers.no_password_in_flag("mongo_uri")?;
    let dirs = [("--dir", &args.dir), ("--copy-dir", &args.copy_dir)];
    let unexpanded = |(_, dir): &(&str, &Option<PathBuf>)| {
        dir.as_ref().is_some_and(|dir| dir.to_string_lossy().starts_with('~'))
    };
    if let Some((flag, Some(dir))) = dirs.into_iter().find(unexpanded) {
        return Err(Error::usage(format!(
            "{flag} {} begins with a ~ that the shell did not expand",
            dir.display()
        ))
        .hint("Write $HOME instead, or ./~ for a folder of that name"));
    }
    Ok(())
}

/// Checks all settings before the file is written, as a nightly run checks them. Returns the place of the backups, and
/// whether mails are set up.
fn check_settings(config: &Config) -> Result<(Place, bool)> {
    let place = config.place.clone().map_err(|e| match config.layers.is_set("dir") {
        false if !config.layers.is_set("s3.bucket") => {
            e.hint("Name a directory (--dir DIR) or a bucket (S3_BACKUP_BUCKET)")
        }
        _ => e,
    })?;
    for name in config.layers.copy_names() {
        config.at(name)?.place?;
    }
    config.restore_target.as_ref()?;
    config.drill_uri.as_ref()?;
    config.signals.as_ref()?;
    config.webhook.as_ref()?;
    Ok((place, config.mail.as_ref()?.is_some()))
}

/// Prepares the schedule, from the files that exist before the trial.
fn schedule(
    config: &Config,
    options: &InitOptions,
    prepared: &Prepared,
    place: &Place,
    mails: bool,
    oplog: bool,
) -> Schedule {
    let user = service_user(&std::fs::read_to_string("/etc/passwd").unwrap_or_default());
    let look = |path: &Path| ServicePath::look(path, user);
    // A `--log-file` of this run is not a setting of the nightly runs.
    let named = |key| {
        config.layers.text(key).filter(|_| config.layers.origin(key) != Some(&Origin::Flag)).map(Path::new)
    };
    let installed = options.installed.iter().flat_map(|installed| &installed.variables);
    let profile = std::env::var("AWS_PROFILE").ok().filter(|profile| !profile.is_empty());
    let profile = profile.or_else(|| {
        installed.into_iter().find(|(name, _)| name == "AWS_PROFILE").map(|(_, profile)| profile.clone())
    });
    let dir_of = |name: &str| match config.at(name).ok()?.place {
        Ok(Place::Dir(dir)) => Some(dir.root),
        _ => None,
    };
    let file = &options.file;
    Schedule {
        binary: std::env::current_exe().unwrap_or_else(|_| "/usr/bin/uzima-backup".into()),
        config: (file != Path::new(DEFAULT_FILE)).then(|| file.clone()),
        dir: match place {
            Place::Dir(dir) => Some(look(&dir.root)),
            Place::S3(_) => None,
        },
        metrics: named("metrics_file").and_then(Path::parent).map(look),
        log_file: named("log_file").map(look),
        secrets: prepared.left_out().to_vec(),
        profile: profile.filter(|_| matches!(place, Place::S3(_))),
        mails,
        oplog,
        new_key: prepared.new_key().map(|key| look(&key.file)),
        copies: config.layers.copy_names().next().is_some(),
        copy_dirs: config.layers.copy_names().filter_map(dir_of).map(|dir| look(&dir)).collect(),
    }
}

/// Returns true if the first place works. Otherwise no nightly run is offered.
fn store_works(health: &Health) -> bool {
    let of_first = |row: &CheckRow| row.place.as_deref().is_none_or(|place| place == FIRST);
    let fails = |row: &CheckRow| row.name == "store" && row.outcome == CheckOutcome::Failed && of_first(row);
    !health.checks.iter().any(fails)
}

/// The settings of the file alone, as cron's runs have them, plus the secrets that are not in the file.
fn load(file: &Path, secrets: &[LeftOut], env: Env<'_>, config: &Config) -> Result<Config> {
    let only_secrets = |name: &str| {
        let secret = secrets.iter().find(|secret| match secret.there {
            true => secret.variable == name,
            false => secret.variable.strip_suffix("_FILE") == Some(name),
        })?;
        if secret.there { Some(secret.file.clone().into_os_string()) } else { env(name) }
    };
    Config::load(BTreeMap::new(), &only_secrets, std::iter::empty(), Some(file), &config.machine)
}

/// Runs `health` with the settings of the nightly runs, and looks at the oplog if the server answers. A new installation has no
/// backup and no drill yet, so these checks are skipped.
async fn try_file(
    file: &Path,
    secrets: &[LeftOut],
    env: Env<'_>,
    run: &Run<'_>,
) -> Result<(Health, Option<OplogOffer>)> {
    let config = load(file, secrets, env, run.config)?;
    let skip = vec!["freshness".into(), "drill".into()];
    let run = Run { config: &config, log: run.log.clone(), new_id: run.new_id.clone(), ..*run };
    let health = run_health(&run, &HealthOptions { skip, ..HealthOptions::default() }).await?;
    let answers = health.checks.iter().any(|row| row.name == "mongodb" && row.outcome == CheckOutcome::Ok);
    let offer = match &config.job {
        Ok(settings) if answers => run.cancel.or(oplog::look(settings)).await.ok().and_then(Result::ok),
        _ => None,
    };
    Ok((health, offer))
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path)
        .map_err(|e| Error::usage(format!("'{}' is not a path of a file", path.display())).caused_by(e))
}

/// The result as JSON.
#[derive(JsonSchema, Serialize)]
struct InitDocument<'a> {
    version: u8,
    file: &'a Path,
    /// `None` with `--dry-run`, or if there was nothing to do.
    mode: Option<String>,
    kept: Option<&'a Path>,
    settings: Vec<&'static str>,
    left_out: &'a [LeftOut],
    found: &'a [String],
    health: Option<&'a Health>,
    crontab: Vec<String>,
    systemd: Vec<String>,
    install: Option<&'a InstallPlan>,
    /// The signing key that was made; missing if none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing: Option<&'a NewKey>,
    /// How many public keys the backups are encrypted to; 0 if they are not encrypted.
    recipients: usize,
    /// `None` if the server was not asked, did not answer, or has no oplog that can be stored.
    oplog: Option<&'a OplogOffer>,
}

/// The JSON Schema of the result.
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    InitDocument::json_schema(generator)
}

/// What happened to the plan of an installation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Planned,
    Done,
}

impl Init {
    fn print(
        &self,
        report: Option<&InitReport>,
        health: Option<&Health>,
        plan: Option<&InstallPlan>,
        offer: Option<&OplogOffer>,
        output: &Output,
    ) {
        let offered = health.is_none_or(store_works);
        let document = InitDocument {
            version: 1,
            file: &self.file,
            mode: report.map(|report| format!("{:04o}", report.mode)),
            kept: report.and_then(|report| report.kept.as_deref()),
            settings: self.prepared.settings(),
            left_out: self.prepared.left_out(),
            found: self.prepared.found(),
            health,
            crontab: if offered { self.schedule.crontab() } else { Vec::new() },
            systemd: if offered { self.schedule.systemd() } else { Vec::new() },
            install: plan,
            signing: self.prepared.new_key(),
            recipients: self.recipients,
            oplog: offer,
        };
        output.result(&document, || match (report, health) {
            (Some(report), Some(health)) => self.text(report, health, plan, offer),
            _ => plan.map(|plan| self.plan_or_nothing(plan)).unwrap_or_default(),
        });
    }

    fn plan_or_nothing(&self, plan: &InstallPlan) -> String {
        match plan.is_empty() {
            true => {
                let mut text = format!("nothing to change: {}\n", present(plan));
                plan.notes.iter().for_each(|note| push_line(&mut text, &format!("note: {note}")));
                text
            }
            false => plan_text(plan),
        }
    }

    fn text(
        &self,
        report: &InitReport,
        health: &Health,
        plan: Option<&InstallPlan>,
        offer: Option<&OplogOffer>,
    ) -> String {
        let mut text = match self.prepared.is_kept() {
            true => format!("{} stays as it is (mode {:04o})\n", self.file.display(), report.mode),
            false => format!("{} is written (mode {:04o}):\n", self.file.display(), report.mode),
        };
        if !self.prepared.is_kept() {
            text.push_str(&wrapped(&report.settings.join(", ")));
        }
        if let Some(kept) = &report.kept {
            push_line(&mut text, &format!("the old file is kept: {}", kept.display()));
        }
        if !report.found.is_empty() {
            section(&mut text, "Found on this machine:", &folded(&report.found));
        }
        if plan.is_none() && !report.left_out.is_empty() {
            section(
                &mut text,
                "Secrets that are not in the file (--with-secrets writes them):",
                &report.left_out.iter().flat_map(secret_lines).collect::<Vec<_>>(),
            );
        }
        let lines: Vec<String> = health::report_text(health).lines().map(String::from).collect();
        section(&mut text, "Health:", &lines);
        if !store_works(health) {
            let again = match plan {
                Some(_) => "the nightly runs are not installed: correct it, and run the same command again",
                None => "correct it; then `init --install` starts the nightly runs",
            };
            section(&mut text, "The store failed:", &[again.to_string()]);
        } else if health.exit() != Exit::Done {
            section(&mut text, "First correct what failed:", &[health.failed().join(", ")]);
        }
        let done = plan.map(|plan| steps_text(plan, Stage::Done)).unwrap_or_default();
        if !done.is_empty() {
            section(&mut text, "Done:", &done);
        }
        if !store_works(health) {
            return text;
        }
        let by_timers = plan.is_some_and(|plan| plan.scheduler == Scheduler::Systemd);
        let first = match by_timers {
            true => "systemctl start uzima-backup-backup.service".to_string(),
            false => self.schedule.command("backup"),
        };
        match plan {
            Some(plan) => {
                section(&mut text, "The first backup, before the first night:", &[first]);
                plan.notes.iter().for_each(|note| push_line(&mut text, &format!("note: {note}")));
            }
            None => {
                section(&mut text, "The first backup, as the user of the nightly backups:", &[first]);
                section(&mut text, "Every night:", &[self.schedule.install_command()]);
                let jobs = self.schedule.crontab().len();
                text.push_str(&format!(
                    "It shows a plan, asks, and adds {jobs} jobs to the crontab of the user who runs it;\n\
                     as root on a machine with systemd, it enables {jobs} timers instead.\n"
                ));
            }
        }
        match self.recipients {
            0 if self.offers_encryption => {
                let then = format!("Then add this line to {}:", self.file.display());
                let line = r#"recipients = ["age1…", "age1…"]"#.to_string();
                section(
                    &mut text,
                    "Encryption, so that a reader of the store cannot read the data:",
                    &[folded(&[KEYS.to_string(), then]), vec![line]].concat(),
                );
            }
            0 => {}
            count => {
                let line =
                    format!("The backups are encrypted to {}.", units::several(count as u64, "public key"));
                section(&mut text, "Encryption:", &folded(&[line, KEYS.to_string()]));
            }
        }
        if let Some(key) = self.prepared.new_key() {
            let line = format!("{} has the secret key that signs the backups. {TRUST}", key.file.display());
            section(&mut text, "Signatures:", &[folded(&[line]), vec![key.trusted_key.clone()]].concat());
        }
        if let Some(offer) = offer.filter(|offer| !offer.scheduled) {
            let command = format!("{} --oplog", self.schedule.install_command());
            section(
                &mut text,
                "Any second between two nights:",
                &[folded(&offer.words()), vec![command]].concat(),
            );
        }
        text
    }
}

/// What a machine has that needs no change.
fn present(plan: &InstallPlan) -> &'static str {
    match plan.scheduler {
        Scheduler::Systemd => "the settings and the timers of systemd are installed",
        Scheduler::Cron => "the settings and the jobs in the crontab are installed",
    }
}

/// The plan for a person who is asked, or for `--dry-run`.
fn plan_text(plan: &InstallPlan) -> String {
    let mut text = match plan.scheduler {
        Scheduler::Systemd => "The nightly runs are started by systemd. `init --install` will:\n".to_string(),
        Scheduler::Cron => "The nightly runs are started by cron. `init --install` will:\n".to_string(),
    };
    steps_text(plan, Stage::Planned).iter().for_each(|line| push_line(&mut text, &format!("  {line}")));
    plan.notes.iter().for_each(|note| push_line(&mut text, &format!("note: {note}")));
    text
}

/// The steps with their lines, or those that are done without.
fn steps_text(plan: &InstallPlan, stage: Stage) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, step) in plan.steps().enumerate().filter(|(_, step)| stage == Stage::Planned || step.done) {
        lines.push(format!("{}. {}{}", number + 1, step.what, attributes(step)));
        if stage == Stage::Planned {
            lines.extend(step.removed.iter().map(|line| format!("     - {line}")));
            lines.extend(step.added.iter().map(|line| format!("     + {line}")));
        }
    }
    lines
}

/// The mode and the owner of the file that a step writes.
fn attributes(step: &Step) -> String {
    match (&step.mode, &step.owner) {
        (Some(mode), Some(owner)) if step.kind != StepKind::Crontab => {
            format!(" (mode {mode}, owner {owner})")
        }
        _ => String::new(),
    }
}

/// Wraps a text into indented lines of at most [`WIDTH`] characters. A longer word has a line of its own.
fn wrapped(text: &str) -> String {
    const INDENT: &str = "    ";
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && INDENT.len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
            push_line(&mut lines, &format!("{INDENT}{line}"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push_line(&mut lines, &format!("{INDENT}{line}"));
    lines
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    text.push_str(&format!("\n{title}\n"));
    lines.iter().for_each(|line| push_line(text, &format!("    {line}")));
}

/// The lines of texts that are wrapped into a section.
fn folded(texts: &[String]) -> Vec<String> {
    let text: String = texts.iter().map(|text| wrapped(text)).collect();
    text.lines().map(|line| line.trim().into()).collect()
}

/// Describes the file of a secret, or how to create it.
fn secret_lines(secret: &LeftOut) -> Vec<String> {
    let file = format!("{} = {}", secret.variable, secret.file.display());
    if secret.there {
        return vec![format!("{file}: this file already has the secret")];
    }
    vec![
        file,
        "  `init --install` creates it (mode 0600). By hand: run this, paste".into(),
        format!("  {}, and press Enter and Ctrl-D", secret.whole()),
        format!("    {}", secret.command()),
        "  (if another user runs cron, add `-o USER`)".into(),
    ]
}
