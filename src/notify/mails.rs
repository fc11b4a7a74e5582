//! The wording of the mails: from the facts of an event to a [`Message`].

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::events::{
    BackupSuccess, CheckOutcome, CheckRow, CleanedPlace, CleanupFrozen, CleanupSuccess, Deletion, LastBackup,
    NewestGood, NotifiedRun, OplogSuccess, ReportMail, RunFailure, RunKind, RunOutcome, between,
};
use super::message::{Message, Sender, Table, Tone};
use super::throttle::FailureStreak;
use super::time;
use crate::base::units;
use crate::config::notify::Event;
use crate::model::losses::{Losses, NamespaceLoss};

/// The most namespaces that a mail lists. The manifest has the others.
const MOST_LOSSES: usize = 20;
/// The most problems, and the most notes, that a mail lists.
const MOST_TEXTS: usize = 20;

/// The mail about the end of a run. `streak` counts the failures in a row: up to this one, or before this success.
pub(super) fn outcome(
    run: &NotifiedRun,
    outcome: &RunOutcome,
    streak: Option<FailureStreak>,
    now: DateTime<Utc>,
    sender: &Sender,
) -> Message {
    let good = match outcome {
        RunOutcome::Failure(f) => {
            return failure(run, f, streak.unwrap_or(FailureStreak { failures: 1, since: now }), now, sender);
        }
        RunOutcome::Frozen(f) => return frozen(run, f, sender),
        RunOutcome::Success(s) => success(run, s, sender),
        RunOutcome::Cleanup(c) => cleanup(run, c, sender),
        RunOutcome::Oplog(o) => oplog(run, o, sender),
    };
    match streak {
        Some(streak) => recovered(run, streak, good),
        None => good,
    }
}

fn success(run: &NotifiedRun, s: &BackupSuccess, sender: &Sender) -> Message {
    let facts = &s.facts;
    let (done, backed_up) = match facts.partial {
        None => ("backup done", format!("{} is backed up", run.job)),
        Some(_) => ("partial backup done", format!("a part of {} is backed up", run.job)),
    };
    let (tone, status, headline) = match s.problems.len() {
        0 => (Tone::Good, done.into(), backed_up),
        _ => (
            Tone::Warning,
            format!("{done}, needs a look"),
            format!("{backed_up}, but something needs a look"),
        ),
    };
    let size = format!("{} raw, {} stored", units::bytes(facts.raw_bytes), units::bytes(facts.stored_bytes));
    let (documents, namespaces) =
        (units::several(facts.documents, "document"), units::several(facts.namespaces, "namespace"));
    let mut message =
        Message::new(Event::Success, tone, &format!("{status}: {}", run.name()), &headline, sender)
            .fact("Backup", &run.run)
            .fact("Job", &run.job)
            .fact("Size", size)
            .fact("Content", format!("{documents} in {namespaces}"))
            .fact("Began", time(facts.started_at))
            .fact("Took", units::duration(between(facts.started_at, facts.finished_at)));
    if let Some(timing) = &facts.timing {
        message = message.fact("Speed", timing.sentence(facts.raw_bytes));
    }
    let mut message = message
        .fact("Engine", format!("{}, consistency {}", facts.engine, facts.consistency))
        .fact("Place", &facts.place);
    if let Some(what) = &facts.partial {
        message
            .facts
            .push(("Partial".into(), format!("{what}; it does not count as a good backup of the job")));
    }
    // The table names the losses, so that a collapse and a note need not.
    let (named, noted) =
        (s.losses.as_ref().map(|losses| format!(": {losses}")), s.losses.as_ref().map(Losses::note));
    let unnamed = |problem: &String| {
        let without = named.as_ref().and_then(|named| problem.strip_suffix(named.as_str()));
        without.unwrap_or(problem).to_string()
    };
    message.paragraphs = capped(needs_a_look(&s.problems.iter().map(unnamed).collect::<Vec<_>>()));
    message.tables.extend(s.losses.as_ref().map(losses_table));
    let notes = s.notes.iter().filter(|note| noted.as_ref() != Some(*note)).cloned();
    message.facts.extend(capped(notes).into_iter().map(|note| ("Note".into(), note)));
    message
}

/// The first texts of a list, and a line that counts the others, so that a mail stays readable.
fn capped(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.collect();
    if texts.len() > MOST_TEXTS {
        let more = (texts.len() - MOST_TEXTS) as u64;
        texts.truncate(MOST_TEXTS);
        texts.push(format!("and {} more", units::count(more)));
    }
    texts
}

fn losses_table(losses: &Losses) -> Table {
    let row = |loss: &NamespaceLoss| {
        let (before, now) = loss.amounts();
        vec![loss.namespace.clone(), before, now]
    };
    let title = format!("Vanished or shrank since the last good backup {}", losses.since);
    let rows: Vec<_> = losses.namespaces.iter().take(MOST_LOSSES).map(row).collect();
    let more = losses.count.saturating_sub(rows.len() as u64);
    Table::new(&title, &["Namespace", "Before", "Now"], &[1, 2], rows).and_more(more)
}

/// The mail about a run that failed. It sounds more urgent the older the newest good backup is.
fn failure(
    run: &NotifiedRun,
    f: &RunFailure,
    streak: FailureStreak,
    now: DateTime<Utc>,
    sender: &Sender,
) -> Message {
    let (status, headline) = match run.partial {
        false => failure_words(run, f, now),
        true => ("partial backup failed".into(), format!("The backup of a part of {} failed", run.job)),
    };
    let mut message =
        Message::new(Event::Failure, Tone::Bad, &format!("{status}: {}", run.name()), &headline, sender)
            .fact("What failed", &f.error)
            .fact("Job", &run.job)
            .fact("Run", &run.run)
            .fact("When", time(now))
            .fact("Exit code", f.exit.code().to_string());
    if streak.failures > 1 {
        let runs = units::several(streak.failures.into(), "run");
        message = message.fact("Failed in a row", format!("{runs}, since {}", time(streak.since)));
    }
    message = message.fact(
        "Newest good backup",
        match f.newest_good {
            NewestGood::Unknown => "unknown: the place of the backups did not answer".into(),
            NewestGood::Missing => "there is none".into(),
            NewestGood::At(at) => format!("{}, {} old", time(at), units::duration(between(at, now))),
        },
    );
    let log = "Read the log of this run; `uzima-backup list` shows the backups";
    message.next_step = Some(f.next_step.clone().unwrap_or_else(|| log.into()));
    message.log = f.log.clone();
    message
}

/// Status and headline of a failure. A newest good backup that is too old weighs more than the failure itself.
fn failure_words(run: &NotifiedRun, f: &RunFailure, now: DateTime<Utc>) -> (String, String) {
    let (job, operation) = (&run.job, run.operation);
    let status = format!("{operation} failed");
    if operation != RunKind::Backup {
        return (status, format!("The {operation} of {job} failed"));
    }
    let Some((age, times)) = f.too_old(now) else {
        let headline = match f.newest_good {
            NewestGood::Missing => format!("The backup of {job} failed, and there is no good one yet"),
            NewestGood::Unknown | NewestGood::At(_) => format!("The backup of {job} failed"),
        };
        return (status, headline);
    };
    let age = roughly(age);
    match times {
        0..3 => (
            format!("{status}, the newest good one is {age} old"),
            format!("The backup of {job} failed; the newest good one is {age} old, which is too old"),
        ),
        3..7 => (
            format!("BACKUPS KEEP FAILING, no good one for {age}"),
            format!("Backups of {job} keep failing: there has been no good one for {age}"),
        ),
        _ => (
            format!("NO GOOD BACKUP FOR {}", age.to_uppercase()),
            format!(
                "{job} is not protected: there has been no good backup for {age}. A failure of the server would lose all writes since then"
            ),
        ),
    }
}

/// The age in whole days, from two days on.
fn roughly(age: Duration) -> String {
    match age.as_secs() / 86_400 {
        0 | 1 => units::duration(age),
        days => format!("{days} days"),
    }
}

/// The mail that is sent at `at` if no backup follows `last`.
pub(super) fn stopped(last: &LastBackup<'_>, at: DateTime<Utc>, sender: &Sender) -> Message {
    let job = last.job;
    let headline =
        format!("Backups of {job} have stopped: there has been none since {}", time(last.started_at));
    let mut message =
        Message::new(Event::Failure, Tone::Bad, &format!("BACKUPS HAVE STOPPED: {job}"), &headline, sender)
            .fact("Job", job)
            .fact("Last backup", last.id)
            .fact("Began", time(last.started_at))
            .fact("Allowed age", units::age(last.max_age))
            .fact("Machine", &sender.host);
    message.paragraphs.push(format!(
        "This mail was scheduled after that backup, for {}. Each later backup would have cancelled it. So no backup was \
         completed since then, and the machine may not even have been able to report a failure.",
        time(at)
    ));
    message.next_step = Some(format!(
        "Look if {} runs, if its timer or cron starts `uzima-backup backup`, and what its log says; `uzima-backup list` shows \
         the backups",
        sender.host
    ));
    message
}

/// Turns the mail about a success into the mail about the recovery.
fn recovered(run: &NotifiedRun, streak: FailureStreak, success: Message) -> Message {
    let headline = match run.operation {
        RunKind::Backup => format!("Backups of {} work again", run.job),
        operation @ (RunKind::Cleanup | RunKind::Oplog | RunKind::Other(_)) => {
            format!("The {operation} of {} works again", run.job)
        }
    };
    let mut message = Message {
        event: Event::Recovered,
        subject: format!("[uzima-backup] {} works again: {}", run.operation, run.name()),
        headline,
        ..success
    };
    let runs = units::several(streak.failures.into(), "run");
    let failed = format!("{runs} in a row, the first at {}", time(streak.since));
    message.facts.insert(0, ("Had failed".into(), failed));
    message
}

fn cleanup(run: &NotifiedRun, c: &CleanupSuccess, sender: &Sender) -> Message {
    let deleted: Vec<&Deletion> = match c.places.is_empty() {
        true => c.deleted.iter().collect(),
        false => c.places.iter().flat_map(|place| &place.deleted).collect(),
    };
    let count = deleted.len() as u64;
    let freed =
        units::bytes(deleted.iter().map(|deletion| deletion.stored_bytes).fold(0, u64::saturating_add));
    let done = match count {
        0 => "there was no backup to delete".to_string(),
        _ => format!("{} deleted, {freed} freed", units::several(count, "backup")),
    };
    let (tone, status) = match (c.problems.len(), c.exceeds) {
        (0, None) => (Tone::Good, format!("cleanup done, {} deleted", units::count(count))),
        (0, Some(_)) => {
            (Tone::Warning, format!("cleanup done, {} deleted, more than usual", units::count(count)))
        }
        _ => (Tone::Warning, "cleanup done, needs a look".into()),
    };
    let headline = format!("Cleanup of {}: {done}", run.job);
    let mut message =
        Message::new(Event::Cleanup, tone, &format!("{status}: {}", run.name()), &headline, sender)
            .fact("Job", &run.job)
            .fact("Deleted", format!("{}, {freed}", units::several(count, "backup")))
            .fact("Kept", format!("{}, {}", units::several(c.kept, "backup"), units::bytes(c.kept_bytes)))
            .fact("Place", &c.place);
    message.paragraphs = capped(needs_a_look(&c.problems));
    message.paragraphs.extend(c.exceeds.map(|most| {
        format!(
            "Needs a look: recent cleanups deleted at most {} at once. If nobody changed the retention, check the \
             reasons below",
            units::several(most, "backup")
        )
    }));
    message.facts.extend(capped(c.notes.iter().cloned()).into_iter().map(|note| ("Note".into(), note)));
    message.tables.extend(places_table(&c.places));
    if !c.places.is_empty() {
        message.tables.extend(c.places.iter().filter_map(|place| {
            let title = format!("Deleted in {}", place.name);
            deleted_table(&title, &place.deleted)
        }));
    } else {
        message.tables.extend(deleted_table("Deleted", &c.deleted));
    }
    message
}

/// The deleted backups of a place; `None` if there are none.
fn deleted_table(title: &str, deleted: &[Deletion]) -> Option<Table> {
    let row = |d: &Deletion| {
        vec![d.id.clone(), units::duration(d.age), units::bytes(d.stored_bytes), d.reason.clone()]
    };
    let rows: Vec<_> = deleted.iter().map(row).collect();
    (!rows.is_empty()).then(|| Table::new(title, &["Backup", "Age", "Size", "Why"], &[1, 2], rows))
}

/// The places of a cleanup; `None` without copies.
fn places_table(places: &[CleanedPlace]) -> Option<Table> {
    let row = |place: &CleanedPlace| {
        let deleted = if place.frozen { "frozen".into() } else { units::count(place.deleted.len() as u64) };
        let newest = place.newest_good.map_or_else(|| "none".into(), time);
        let kept = units::count(place.kept);
        vec![place.name.clone(), deleted, kept, units::bytes(place.kept_bytes), newest]
    };
    let columns = ["Place", "Deleted", "Kept", "Size", "Newest good backup"];
    let rows: Vec<_> = places.iter().map(row).collect();
    (!rows.is_empty()).then(|| Table::new("Places", &columns, &[1, 2, 3], rows))
}

/// The mail about an oplog that was stored. Without problems, only a recovery is mailed.
fn oplog(run: &NotifiedRun, o: &OplogSuccess, sender: &Sender) -> Message {
    let (event, tone, status, headline) = match o.problems.len() {
        0 => (Event::Success, Tone::Good, "oplog stored", format!("The oplog of {} is stored", run.job)),
        _ => (
            // A gap is as bad as a failed run for those who are mailed only about failures.
            Event::Failure,
            Tone::Warning,
            "oplog stored, needs a look",
            format!("The oplog of {} is stored, but something needs a look", run.job),
        ),
    };
    let size = format!("{} raw, {} stored", units::bytes(o.raw_bytes), units::bytes(o.stored_bytes));
    let mut message = Message::new(event, tone, &format!("{status}: {}", run.name()), &headline, sender)
        .fact("Job", &run.job)
        .fact("Stored", format!("{}, {size}", units::several(o.entries, "entry")))
        .fact("Place", &o.place);
    if let Some(end) = o.end {
        message = message.fact("Up to", time(end));
    }
    message.paragraphs = capped(needs_a_look(&o.problems));
    message.facts.extend(capped(o.notes.iter().cloned()).into_iter().map(|note| ("Note".into(), note)));
    message
}

fn frozen(run: &NotifiedRun, f: &CleanupFrozen, sender: &Sender) -> Message {
    let frozen: Vec<&str> =
        f.places.iter().filter(|place| place.frozen).map(|place| place.name.as_str()).collect();
    let at = if frozen.is_empty() { String::new() } else { format!(" in {}", frozen.join(" and ")) };
    let headline = format!("Cleanup of {} deletes nothing{at} until a person looks", run.job);
    let subject = format!("cleanup frozen: {}", run.name());
    let mut message = Message::new(Event::Frozen, Tone::Warning, &subject, &headline, sender)
        .fact("Job", &run.job)
        .fact(
            "To be deleted",
            format!("{} of {}", units::count(f.waiting), units::several(f.backups, "backup")),
        )
        .fact("Place", &f.place);
    let why = f.why.iter().map(|why| format!("Why: {why}"));
    message.paragraphs = capped(why.chain(needs_a_look(&f.problems)));
    message.tables.extend(places_table(&f.places));
    message.next_step = Some(
        "Look at the plan: uzima-backup cleanup --dry-run. If it is right, accept the named backup with \
         cleanup --accept ID, or delete many backups at once with cleanup --force."
            .into(),
    );
    message
}

/// The mail with a report of `stats` or `health`.
pub fn report(event: Event, report: ReportMail, sender: &Sender) -> Message {
    Message {
        facts: report.facts,
        paragraphs: capped(report.paragraphs.into_iter()),
        tables: report.tables,
        next_step: report.next_step,
        ..Message::new(event, report.tone, &report.subject, &report.headline, sender)
    }
}

/// The mail about a report of `health`. `job` is `None` if the settings are wrong.
pub fn health_mail(job: Option<&str>, checks: &[CheckRow], now: DateTime<Utc>) -> ReportMail {
    let job = job.unwrap_or("settings that are wrong");
    let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count() as u64;
    let (tone, status) = match (count(CheckOutcome::Failed), count(CheckOutcome::Warning)) {
        (0, 0) => (Tone::Good, "healthy".to_string()),
        (0, warnings) => (Tone::Warning, format!("healthy, {}", units::several(warnings, "warning"))),
        (failed, _) => {
            (Tone::Bad, format!("{failed} of {} failed", units::several(checks.len() as u64, "check")))
        }
    };
    let steps: Vec<String> = checks
        .iter()
        .filter_map(|check| Some(format!("{}: {}", check.label(), check.next_step.as_ref()?)))
        .collect();
    let row = |check: &CheckRow| {
        let (name, word) = (check.label(), check.outcome.word().to_string());
        vec![name, word, check.detail.clone(), units::brief(check.took)]
    };
    let rows = checks.iter().map(row).collect();
    ReportMail {
        tone,
        subject: format!("health: {status}: {job}"),
        headline: format!("{job}: {status}"),
        facts: vec![("Checked".into(), time(now))],
        paragraphs: Vec::new(),
        tables: vec![Table::new("Checks", &["Check", "Result", "Found", "Took"], &[3], rows)],
        next_step: (!steps.is_empty()).then(|| steps.join(" · ")),
    }
}

fn needs_a_look(problems: &[String]) -> impl Iterator<Item = String> {
    problems.iter().map(|problem| format!("Needs a look: {problem}"))
}

#[cfg(test)]
mod tests;
