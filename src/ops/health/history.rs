//! The checks of the stored backups: the newest good one, damage, and the newest drill.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Context, Finding};
use crate::base::error::{Error, Result};
use crate::base::units::{self, duration, several};
use crate::catalog::fault::{BackupFault, FaultKind};
use crate::catalog::scheduled::ScheduledMails;
use crate::model::id::BackupId;
use crate::retention::{self, Freshness};

/// How many faulty backups the check names.
const NAMED: usize = 3;

/// Checks that the newest good backup of the job is young enough.
pub(super) async fn freshness(context: &Context) -> Result<Finding> {
    let (job, max_age) = (&context.subject.settings.job, context.subject.settings.max_age);
    let state = context.state().await?;
    let backups = state.map(|state| state.backups()).unwrap_or_default();
    let found = retention::freshness(&backups, job, context.time(), max_age);
    let mut beside = fault_lines(&found.bad, found.newest.is_some());
    let unreadable = state.map(|state| state.unreadable.join("; ")).filter(|list| !list.is_empty());
    if let Some(unreadable) = &unreadable {
        beside.push_str(&format!("; not counted: {unreadable}"));
    }
    let allowed = units::age(max_age);
    match found {
        Freshness { newest: Some((id, old)), fresh: true, .. } => {
            Finding::ok(format!("{id} is {} old, {allowed} are allowed{beside}", units::age(old)))
        }
        Freshness { newest: Some((id, old)), .. } => Err(Error::failed(format!(
            "the newest good backup {id} is {} old, {allowed} are allowed (max_age){beside}",
            units::age(old)
        ))
        .hint(newer(
            context,
            "Find out in cron's mail or the log why there is no newer one, then run `uzima-backup backup`",
        ))),
        Freshness { newest: None, bad, .. } if !bad.is_empty() => Err(Error::failed(format!(
            "no good backup of the job {job}{beside}"
        ))
        .hint(
            "Run `uzima-backup backup`; `uzima-backup cleanup --dry-run` shows what to do about the others",
        )),
        // The unreadable manifests may be good backups of the job.
        _ if unreadable.is_some() => Err(Error::failed(format!(
            "it is unknown if there is a backup of the job {job}{beside}"
        ))
        .hint("Run `uzima-backup list`, which names the unreadable manifests, then `uzima-backup backup`")),
        _ => {
            let others = state.map(|state| state.others.iter().cloned().collect::<Vec<_>>());
            let others = others.filter(|list| !list.is_empty());
            let only =
                others.map(|list| format!(", only backups of {} (--job, BACKUP_JOB)", list.join(", ")));
            Err(Error::failed(format!("there is no backup of the job {job}{}", only.unwrap_or_default()))
                .hint(newer(context, "Run `uzima-backup backup`; on a new installation: --skip freshness")))
        }
    }
}

/// The step to a newer backup: `step`, or a copy from the other places.
fn newer(context: &Context, step: &str) -> String {
    match &context.copy {
        Some(name) => format!(
            "Run `uzima-backup copy --missing --to {name}`, and find out in cron's mail or the log why the last backups are not there"
        ),
        None => step.into(),
    }
}

/// Checks that no backup is known to be damaged, by the listing and the results of verify.
pub(super) async fn backups(context: &Context) -> Result<Finding> {
    let Some(state) = context.state().await? else { return Finding::skipped("there is no backup yet") };
    if let Some(absent) = &state.missing {
        return Err(absent.error());
    }
    let lost = state.lost(context.time());
    let mut faults: Vec<(&BackupId, &BackupFault)> = state.faults().chain(&state.broken).collect();
    faults.extend(lost.iter().map(|(id, fault)| (*id, fault)));
    faults.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    let Some((id, fault)) = faults.first() else {
        return match state.manifests().count() as u64 {
            0 => Finding::skipped("there is no backup yet"),
            _ if !state.ignored.is_empty() => Finding::warning(
                state.ignored.join("; "),
                "Delete these objects, find out who wrote them, and verify the backups again",
            ),
            n => Finding::ok(format!("{}, no damage known", several(n, "backup"))),
        };
    };
    let named: Vec<String> = faults.iter().take(NAMED).map(|(id, fault)| fault.with_id(id)).collect();
    let more = match faults.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!("; {n} more: uzima-backup list"),
    };
    let step = match fault.kind {
        _ if let Some(name) = context.copy.as_ref().filter(|_| !fault.kind.is_distrust()) => {
            format!("run `uzima-backup copy {id} --to {name}`, which replaces it with a whole one")
        }
        FaultKind::ManifestMissing => {
            "restore its manifest from a copy; if nobody needs the backup, run `uzima-backup cleanup --orphans`".into()
        }
        FaultKind::UnreadableManifest => {
            "restore its manifest from a copy; without a copy, move its objects elsewhere".into()
        }
        FaultKind::Untrusted | FaultKind::WrongSignature => fault.next_step(id).unwrap_or_default(),
        _ => format!("{}; otherwise cleanup deletes it by age", fault.next_step(id).unwrap_or_default()),
    };
    Err(Error::failed(format!("{}{more}", named.join("; ")))
        .hint(format!("For {id}: {step} (until then, --skip backups)")))
}

/// Checks that the newest drill found no difference and is not older than the settings allow.
pub(super) async fn drill(context: &Context) -> Result<Finding> {
    let allowed = context.subject.settings.drill_max_age;
    let newest = context.state().await?.and_then(|state| state.drills().into_iter().next());
    let command = drilling(context).await?;
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
    let old = (context.time() - drill.at).to_std().unwrap_or_default();
    let took = duration(Duration::from_secs_f64(drill.recovery_seconds.max(0.0)));
    let point = drill.point.as_ref().map(|point| format!(" up to {}", point.at.second())).unwrap_or_default();
    let what = format!("the newest drill, of {id}{point}, is {} old, and took {took}", units::age(old));
    if let Some(wrong) = drill.wrong().next() {
        let step = match drill.findings.is_empty() {
            true => {
                "Run `uzima-backup verify --oplog`, and make a new backup: `uzima-backup backup`".to_string()
            }
            false => format!("Make and drill a new backup: `uzima-backup backup`, then `{command}`"),
        };
        return Err(Error::failed(format!("{what}; it found that {wrong}")).hint(step));
    }
    match allowed {
        Some(allowed) if old > allowed => {
            Err(Error::failed(format!("{what}; {} are allowed (drill_max_age)", units::age(allowed)))
                .hint(next))
        }
        _ => Finding::ok(what),
    }
}

/// The command that drills the newest backup. If the store has several jobs, it names the job.
async fn drilling(context: &Context) -> Result<String> {
    let several = context.state().await?.is_some_and(|state| !state.others.is_empty());
    let job = if several { format!(" --job {}", context.subject.settings.job) } else { String::new() };
    Ok(format!("uzima-backup verify latest --drill{job}"))
}

/// Names the newest backup that does not count. `later` is true if a good backup is older than it.
fn fault_lines(bad: &[(BackupId, String)], later: bool) -> String {
    let Some((id, why)) = bad.first() else { return String::new() };
    match (bad.len(), later) {
        (1, _) => format!("; {id} does not count: {why}"),
        (n, true) => format!("; {n} later backups do not count, the newest is {id}: {why}"),
        (n, false) => format!("; {n} backups do not count, the newest is {id}: {why}"),
    }
}

/// Checks that the mail service keeps a mail, to be sent if backups stop.
pub(super) async fn dead_man(context: &Context) -> Result<Finding> {
    if !context.subject.mail.as_ref().is_some_and(|mail| mail.dead_man) {
        return Finding::not_configured("MAIL_DEAD_MAN is off: no mail reports that backups have stopped");
    }
    let job = &context.subject.settings.job;
    let none =
        || Error::failed(format!("no mail is scheduled that reports that backups of {job} have stopped"));
    let Some(store) = context.store().await? else { return Err(none()) };
    let found = match ScheduledMails::read(store, job).await? {
        Some(Ok(found)) => found,
        Some(Err(why)) => return Err(none().caused_by(why)),
        None => return Err(none()),
    };
    let now = context.time();
    let Some(at) = found.mails.iter().map(|mail| mail.at).min().filter(|at| *at > now) else {
        return Err(none().caused_by(format!("the last one was due after the backup {}", found.backup)));
    };
    let shown = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC").to_string();
    let scheduled = format!("scheduled for {}, after the backup {}", shown(at), found.backup);
    if let Some(wanted) = found.wanted_at {
        return Finding::warning(
            format!(
                "{scheduled}; it is due only at {}, but the mail service keeps no mail longer",
                shown(wanted)
            ),
            "Lower BACKUP_MAX_AGE (max_age), make backups more often, or use PING_URL instead of MAIL_DEAD_MAN",
        );
    }
    if !found.superseded.is_empty() {
        let old = units::several(found.superseded.len() as u64, "earlier mail");
        return Finding::warning(
            format!(
                "{scheduled}; {old} could not be cancelled yet, and will be sent although backups are made"
            ),
            "Read the problems of the last backup; RESEND_API_KEY must be a key with full access",
        );
    }
    Finding::ok(scheduled)
}
