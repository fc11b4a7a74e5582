//! Whether there is a good backup of last night.

use std::time::Duration;

use super::context::{Context, Finding};
use crate::base::error::{Error, Result};
use crate::base::units::several;
use crate::catalog::fault::{BackupFault, FaultKind};
use crate::model::id::BackupId;
use crate::retention::{self, Freshness};

/// How many faulty backups are told one by one.
const TOLD: usize = 3;

/// The newest good backup of the job is young enough.
pub async fn freshness(around: &Context) -> Result<Finding> {
    let (job, max_age) = (&around.subject.settings.job, around.subject.settings.max_age);
    let state = around.state().await?;
    let backups = state.map(|state| state.backups()).unwrap_or_default();
    let found = retention::freshness(&backups, job, around.time(), max_age);
    let mut beside = fault_lines(&found.bad, found.newest.is_some());
    let unreadable = state.map(|state| state.unreadable.join("; ")).filter(|list| !list.is_empty());
    if let Some(unreadable) = &unreadable {
        beside.push_str(&format!("; not counted: {unreadable}"));
    }
    let allowed = age(max_age);
    match found {
        Freshness { newest: Some((id, old)), fresh: true, .. } => {
            Finding::ok(format!("{id} is {} old, {allowed} are allowed{beside}", age(old)))
        }
        Freshness { newest: Some((id, old)), .. } => Err(Error::failed(format!(
            "the newest good backup {id} is {} old, {allowed} are allowed (max_age){beside}",
            age(old)
        ))
        .hint(
            "Find out in cron's mail or the log why there is no newer one, then run `uzima-backup backup`",
        )),
        Freshness { newest: None, bad, .. } if !bad.is_empty() => Err(Error::failed(format!(
            "no good backup of the job {job}{beside}"
        ))
        .hint(
            "Run `uzima-backup backup`; `uzima-backup cleanup --dry-run` tells what to do about the others",
        )),
        // Of which job they are is not known: there may well be good ones.
        _ if unreadable.is_some() => Err(Error::failed(format!(
            "whether there is a backup of the job {job} cannot be told{beside}"
        ))
        .hint("Run `uzima-backup list`, which names what cannot be understood, then `uzima-backup backup`")),
        _ => {
            let others = state.map(|state| state.others.iter().cloned().collect::<Vec<_>>());
            let others = others.filter(|list| !list.is_empty());
            let only = others.map(|list| format!(", only of {} (--job, BACKUP_JOB)", list.join(", ")));
            Err(Error::failed(format!("there is no backup of the job {job}{}", only.unwrap_or_default()))
                .hint("Run `uzima-backup backup`; on a new installation: --skip freshness"))
        }
    }
}

/// All backups are as they were stored, as far as a listing and their last verify tell.
pub async fn backups(around: &Context) -> Result<Finding> {
    let Some(state) = around.state().await? else { return Finding::skipped("there is no backup yet") };
    if let Some(absent) = &state.missing {
        return Err(absent.error());
    }
    let lost = state.lost(around.time());
    let mut faults: Vec<(&BackupId, &BackupFault)> = state.faults().chain(&state.broken).collect();
    faults.extend(lost.iter().map(|(id, fault)| (*id, fault)));
    faults.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    let Some((id, fault)) = faults.first() else {
        return match state.manifests().count() as u64 {
            0 => Finding::skipped("there is no backup yet"),
            _ if !state.future.is_empty() => Finding::warning(
                state.future.join("; "),
                "Delete these objects, and find out who wrote them; then verify the backups again",
            ),
            n => Finding::ok(format!("{}, no damage known", several(n, "backup"))),
        };
    };
    let told: Vec<String> = faults.iter().take(TOLD).map(|(id, fault)| fault.with_id(id)).collect();
    let more = match faults.len().saturating_sub(TOLD) {
        0 => String::new(),
        n => format!("; {n} more: uzima-backup list"),
    };
    let step = match fault.kind {
        FaultKind::ManifestMissing => {
            "if there is a copy of its manifest, bring that back; if nobody needs it: \
                                  `uzima-backup cleanup --orphans`"
                .to_string()
        }
        FaultKind::UnreadableManifest => {
            "if there is a copy of its manifest, bring that back; if not, move what is \
                                     left of it elsewhere"
                .to_string()
        }
        _ => format!("{}; given up, it goes by its age", fault.next_step(id).unwrap_or_default()),
    };
    Err(Error::failed(format!("{}{more}", told.join("; ")))
        .hint(format!("Of {id}: {step} (--skip backups until then)")))
}

/// Checks that the newest drill found no difference and is not older than the settings allow.
pub async fn drill(around: &Context) -> Result<Finding> {
    let allowed = around.subject.settings.drill_max_age;
    let newest = around.state().await?.and_then(|state| state.drills().into_iter().next());
    let command = drilling(around).await?;
    let next = format!("Run `{command}`");
    let Some((id, drill)) = newest else {
        return match allowed {
            None => {
                Finding::not_configured(format!("no backup was ever drilled: {}", next.replacen('R', "r", 1)))
            }
            Some(_) => {
                Err(Error::failed("no backup was ever drilled, though drill_max_age is set").hint(next))
            }
        };
    };
    let old = (around.time() - drill.at).to_std().unwrap_or_default();
    let took = length(drill.recovery_seconds);
    let what = format!("the newest drill, of {id}, is {} old, and took {took}", age(old));
    if !drill.findings.is_empty() {
        let step = format!("Make a new backup and drill that: `uzima-backup backup`, then `{command}`");
        return Err(Error::failed(format!("{what}; it found that {}", drill.findings[0])).hint(step));
    }
    match allowed {
        Some(allowed) if old > allowed => {
            Err(Error::failed(format!("{what}; {} are allowed (drill_max_age)", age(allowed))).hint(next))
        }
        _ => Finding::ok(what),
    }
}

/// The command that drills the newest backup. If the store has several jobs, it names the job.
async fn drilling(around: &Context) -> Result<String> {
    let several = around.state().await?.is_some_and(|state| !state.others.is_empty());
    let job = if several { format!(" --job {}", around.subject.settings.job) } else { String::new() };
    Ok(format!("uzima-backup verify latest --drill{job}"))
}

/// `12 min`, `8 s`.
fn length(seconds: f64) -> String {
    crate::base::units::duration(Duration::from_secs_f64(seconds.max(0.0)))
}

/// Names the newest of the backups that do not count. `later`: they are newer than the newest good backup.
fn fault_lines(bad: &[(BackupId, String)], later: bool) -> String {
    let Some((id, why)) = bad.first() else { return String::new() };
    match (bad.len(), later) {
        (1, _) => format!("; {id} does not count: {why}"),
        (n, true) => format!("; {n} later ones are no good, the newest is {id}: {why}"),
        (n, false) => format!("; {n} are no good, the newest is {id}: {why}"),
    }
}

/// `3 d 2 h`, `5 h 12 min`.
fn age(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match minutes / 60 {
        0 => format!("{minutes} min"),
        hours @ 1..=47 => format!("{hours} h {} min", minutes % 60),
        hours => format!("{} d {} h", hours / 24, hours % 24),
    }
}
