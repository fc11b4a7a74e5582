//! `uzima-backup init`.

use std::path::{Path, PathBuf};

use chrono::Utc;
use serde_json::json;

use super::args::{HealthArgs, InitArgs};
use super::logging::Log;
use super::output::{self, Output};
use super::{backup, health};
use crate::cancel::Cancel;
use crate::config::env::{Env, named_file};
use crate::config::layers::{DEFAULT_FILE, Layers, Origin};
use crate::config::place::{self, Place};
use crate::config::{mail, settings};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::ops::health::Report as Health;
use crate::ops::init::schedule::Schedule;
use crate::ops::init::{self, LeftOut, Options, Report};

/// `layers` are flags and environment; `config` is the flag that names the file to write.
pub async fn run(
    args: &InitArgs,
    config: Option<&Path>,
    layers: &Layers,
    output: &Output,
    log: &Log,
    cancel: &Cancel,
) -> Result<Exit> {
    let env: Env<'_> = &|name| std::env::var_os(name);
    let file = absolute(named_file(env, config)?.unwrap_or_else(|| DEFAULT_FILE.into()))?;
    // All that is to be written is checked before anything is.
    settings::unseen(layers, "mongo_uri", "--mongo-uri", "MONGO_URI")?;
    let place = place::place(layers).map_err(|e| match layers.is_set("dir") {
        false if !layers.is_set("s3.bucket") => {
            e.hint("Name a directory (--dir DIR) or a bucket (S3_BACKUP_BUCKET)")
        }
        _ => e,
    })?;
    let mails = mail::mail(layers)?.is_some();
    let options = Options {
        file: file.clone(),
        force: args.force,
        with_secrets: args.with_secrets,
        backup: backup::options(layers)?,
    };
    let report = cancel.or(init::init(layers, env, &options, Utc::now())).await?;
    log::info!("wrote {}; trying it", file.display());
    let health = tried(&file, &report.left_out, env, log, cancel).await?;
    let schedule = Schedule {
        binary: std::env::current_exe().unwrap_or_else(|_| "/usr/bin/uzima-backup".into()),
        config: (file != Path::new(DEFAULT_FILE)).then(|| file.clone()),
        dir: match &place {
            Place::Dir(dir) => Some(dir.root.clone()),
            Place::S3(_) => None,
        },
        written: written(layers),
        secrets: report.left_out.clone(),
        profile: matches!(place, Place::S3(_)).then(|| std::env::var("AWS_PROFILE").ok()).flatten(),
        mails,
    };
    output.result(&json(&file, &report, &health, &schedule), || text(&file, &report, &health, &schedule));
    health::tell_failed(&health, output);
    if health.exit() != Exit::Done {
        output::say(&format!(
            "{} is kept: mend what failed, then run `{} health`",
            file.display(),
            schedule.command()
        ));
    }
    Ok(health.exit())
}

/// The folders of the files that the configuration has written beside the backups.
fn written(layers: &Layers) -> Vec<PathBuf> {
    // Where the log of this one run goes is not a setting of the nights.
    let keys =
        ["metrics_file", "log_file"].into_iter().filter(|key| layers.origin(key) != Some(&Origin::Flag));
    let files = keys.filter_map(|key| layers.text(key).map(PathBuf::from));
    files.filter_map(|file| file.parent().map(Path::to_path_buf)).collect()
}

/// `health` by the file alone, as cron starts it; of the environment only the secrets that are not in the file.
/// Whether there is a backup, and whether one was drilled, is not asked of a new installation.
async fn tried(file: &Path, secrets: &[LeftOut], env: Env<'_>, log: &Log, cancel: &Cancel) -> Result<Health> {
    let of_secret = |name: &str| {
        secrets
            .iter()
            .any(|secret| secret.variable == name || secret.variable.strip_suffix("_FILE") == Some(name))
    };
    let only_secrets = |name: &str| if of_secret(name) { env(name) } else { None };
    let layers = Layers::load(Default::default(), &only_secrets, Some(file))?;
    let args = HealthArgs { skip: vec!["freshness".into(), "drill".into()], ..HealthArgs::default() };
    health::look(&args, &layers, log, cancel).await
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path)
        .map_err(|e| Error::usage(format!("'{}' is no path of a file", path.display())).caused_by(e))
}

fn json(file: &Path, report: &Report, health: &Health, schedule: &Schedule) -> serde_json::Value {
    let left_out =
        |secret: &LeftOut| json!({"variable": secret.variable, "file": secret.file, "there": secret.there});
    json!({
        "version": 1,
        "file": file,
        "mode": format!("{:04o}", report.mode),
        "settings": report.settings,
        "left_out": report.left_out.iter().map(left_out).collect::<Vec<_>>(),
        "found": report.found,
        "health": health::report_json(health),
        "crontab": schedule.crontab(),
        "systemd": schedule.systemd(),
    })
}

fn text(file: &Path, report: &Report, health: &Health, schedule: &Schedule) -> String {
    let mut text =
        format!("{} is written (mode {:04o}): {}\n", file.display(), report.mode, report.settings.join(", "));
    let mut section = |title: &str, lines: &[String]| {
        text.push_str(&format!("\n{title}\n"));
        lines.iter().for_each(|line| text.push_str(&format!("    {line}\n")));
    };
    section("What was there:", &report.found);
    if !report.left_out.is_empty() {
        let line = |secret: &LeftOut| {
            let what = if secret.there { "stays where it is" } else { "is to be put there, mode 0600" };
            format!("{} = {}: the secret {what}", secret.variable, secret.file.display())
        };
        let lines: Vec<String> = report.left_out.iter().map(line).collect();
        section(
            "Not in the file, because it is secret, as addresses to ping or post to are (--with-secrets):",
            &lines,
        );
    }
    let lines: Vec<String> = health::report_text(health).lines().map(String::from).collect();
    section("Its health:", &lines);
    section(
        "The first backup, by the user who makes the later ones:",
        &[format!("{} backup", schedule.command())],
    );
    section("Every night, by cron (`crontab -e`):", &schedule.crontab());
    section("Or by systemd, with the units of the package (examples/systemd), as root:", &schedule.systemd());
    text
}
