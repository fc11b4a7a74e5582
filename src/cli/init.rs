//! `uzima-backup init`: writes the configuration file, tries it, and prints the lines for cron and systemd.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use log::Level;
use serde_json::json;

use super::args::InitArgs;
use super::health;
use super::logging::Log;
use super::output::{self, Output};
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::config::place::Place;
use crate::config::{Config, DEFAULT_FILE, Origin};
use crate::config::{Env, named_file};
use crate::notify::run::Run;
use crate::ops::health::{HealthOptions, HealthReport as Health, run_health};
use crate::ops::init::schedule::{Schedule, ServicePath, service_user};
use crate::ops::init::{self, InitOptions, InitReport, LeftOut};

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
    let (place, mails) = check_settings(args, config)?;
    let options = InitOptions { file: file.clone(), force: args.force, with_secrets: args.with_secrets };
    let report = cancel.or(init::init(config, env, &options, run.clock.now())).await?;
    let schedule = schedule(config, &file, &report, &place, mails);
    log::info!(
        "wrote {}; trying it, which takes half a minute or more if a server does not answer",
        file.display()
    );
    let health = try_file(&file, &report.left_out, env, run).await.map_err(|e| match e.kind() {
        Kind::Signal(_) => e.hint(format!(
            "{} is written: continue with `{}`; `uzima-backup init --force` prints the lines for cron and systemd",
            file.display(),
            schedule.command("health")
        )),
        _ => e,
    })?;
    log.append(Level::Info, &health::report_text(&health));
    output.result(&json(&file, &report, &health, &schedule), || text(&file, &report, &health, &schedule));
    health::print_failed(&health, output);
    if health.exit() != Exit::Done {
        output::print_line(&format!(
            "{} is kept: correct what failed, then run `{}`",
            file.display(),
            schedule.command("health")
        ));
    }
    Ok(health.exit())
}

/// Checks all settings before the file is written, as a nightly run checks them. Returns the place of the backups, and
/// whether mails are set up.
fn check_settings(args: &InitArgs, config: &Config) -> Result<(Place, bool)> {
    config.layers.no_password_in_flag("mongo_uri")?;
    if let Some(dir) = args.dir.as_ref().filter(|dir| dir.to_string_lossy().starts_with('~')) {
        return Err(Error::usage(format!(
            "--dir {} begins with a ~ that the shell did not expand",
            dir.display()
        ))
        .hint("Write $HOME instead, or ./~ for a folder of that name"));
    }
    let place = config.place.clone().map_err(|e| match config.layers.is_set("dir") {
        false if !config.layers.is_set("s3.bucket") => {
            e.hint("Name a directory (--dir DIR) or a bucket (S3_BACKUP_BUCKET)")
        }
        _ => e,
    })?;
    config.restore_target.as_ref()?;
    config.drill_uri.as_ref()?;
    config.signals.as_ref()?;
    config.webhook.as_ref()?;
    Ok((place, config.mail.as_ref()?.is_some()))
}

/// Prepares the lines for cron and systemd, from the files that exist before the trial.
fn schedule(config: &Config, file: &Path, report: &InitReport, place: &Place, mails: bool) -> Schedule {
    let user = service_user(&std::fs::read_to_string("/etc/passwd").unwrap_or_default());
    let look = |path: &Path| ServicePath::look(path, user);
    // A `--log-file` of this run is not a setting of the nightly runs.
    let named = |key| {
        config.layers.text(key).filter(|_| config.layers.origin(key) != Some(&Origin::Flag)).map(Path::new)
    };
    Schedule {
        binary: std::env::current_exe().unwrap_or_else(|_| "/usr/bin/uzima-backup".into()),
        config: (file != Path::new(DEFAULT_FILE)).then(|| file.to_path_buf()),
        dir: match place {
            Place::Dir(dir) => Some(look(&dir.root)),
            Place::S3(_) => None,
        },
        metrics: named("metrics_file").and_then(Path::parent).map(look),
        log_file: named("log_file").map(look),
        secrets: report.left_out.clone(),
        profile: matches!(place, Place::S3(_)).then(|| std::env::var("AWS_PROFILE").ok()).flatten(),
        mails,
    }
}

/// Returns true if the store works. Otherwise no nightly run is offered.
fn store_works(health: &Health) -> bool {
    !health.failed().contains(&"store")
}

/// Runs `health` with the file alone, as cron does, plus the secrets of the environment that are not in the file. A new
/// installation has no backup and no drill yet, so these checks are skipped.
async fn try_file(file: &Path, secrets: &[LeftOut], env: Env<'_>, run: &Run<'_>) -> Result<Health> {
    let is_secret = |name: &str| {
        secrets
            .iter()
            .any(|secret| secret.variable == name || secret.variable.strip_suffix("_FILE") == Some(name))
    };
    let only_secrets = |name: &str| if is_secret(name) { env(name) } else { None };
    let config =
        Config::load(BTreeMap::new(), &only_secrets, std::iter::empty(), Some(file), &run.config.machine)?;
    let skip = vec!["freshness".into(), "drill".into()];
    let run = Run { config: &config, log: run.log.clone(), new_id: run.new_id.clone(), ..*run };
    run_health(&run, &HealthOptions { skip, ..HealthOptions::default() }).await
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path)
        .map_err(|e| Error::usage(format!("'{}' is not a path of a file", path.display())).caused_by(e))
}

fn json(file: &Path, report: &InitReport, health: &Health, schedule: &Schedule) -> serde_json::Value {
    let left_out =
        |secret: &LeftOut| json!({"variable": secret.variable, "file": secret.file, "there": secret.there});
    json!({
        "version": 1,
        "file": file,
        "mode": format!("{:04o}", report.mode),
        "kept": report.kept,
        "settings": report.settings,
        "left_out": report.left_out.iter().map(left_out).collect::<Vec<_>>(),
        "found": report.found,
        "health": health,
        "crontab": if store_works(health) { schedule.crontab() } else { Vec::new() },
        "systemd": if store_works(health) { schedule.systemd() } else { Vec::new() },
    })
}

fn text(file: &Path, report: &InitReport, health: &Health, schedule: &Schedule) -> String {
    let mut text =
        format!("{} is written (mode {:04o}): {}\n", file.display(), report.mode, report.settings.join(", "));
    if let Some(kept) = &report.kept {
        push_line(&mut text, &format!("the old file is kept: {}", kept.display()));
    }
    let mut section = |title: &str, lines: &[String]| {
        text.push_str(&format!("\n{title}\n"));
        lines.iter().for_each(|line| push_line(&mut text, &format!("    {line}")));
    };
    if !report.found.is_empty() {
        section("Found on this machine:", &report.found);
    }
    if !report.left_out.is_empty() {
        section(
            "Secrets that are not in the file, including the addresses of pings and webhooks (--with-secrets writes them):",
            &report.left_out.iter().flat_map(secret_lines).collect::<Vec<_>>(),
        );
    }
    let lines: Vec<String> = health::report_text(health).lines().map(String::from).collect();
    section("Health:", &lines);
    if !store_works(health) {
        let again =
            "correct it; then run this `init` again with --force, to print the lines that start the backups"
                .to_string();
        section("The store failed:", &[again]);
        return text;
    }
    if health.exit() != Exit::Done {
        section("First correct what failed, unless a line below does so:", &[health.failed().join(", ")]);
    }
    section("The first backup, as the user of the nightly backups:", &[schedule.command("backup")]);
    section("Every night, by cron (`crontab -e`):", &schedule.crontab());
    section("Or by systemd, with the units of the package (examples/systemd), as root:", &schedule.systemd());
    text
}

/// Describes the file of a secret, or how to create it.
fn secret_lines(secret: &LeftOut) -> Vec<String> {
    let file = format!("{} = {}", secret.variable, secret.file.display());
    if secret.there {
        return vec![format!("{file}: this file already has the secret")];
    }
    vec![
        format!(
            "{file}: create it with mode 0600: run this, paste {}, and press Enter and Ctrl-D",
            secret.whole()
        ),
        format!("    {}", secret.command()),
        "    (if another user runs cron, add `-o USER`)".into(),
    ]
}
