//! `uzima-backup list ID`: the text about one backup.

use chrono::{DateTime, Utc};

use super::{places_text, status_colour};
use crate::base::escape;
use crate::base::units;
use crate::catalog::fault::ShownStatus;
use crate::catalog::marks::Mark;
use crate::catalog::run::Status;
use crate::catalog::verdict::Verdict;
use crate::cli::output::columns;
use crate::cli::styled::{Colour, StyledText};
use crate::model::losses::{Losses, NamespaceLoss};
use crate::model::manifest::{ConsistencyAchieved, HIDDEN, Manifest, NamespaceEntry};
use crate::model::namespace::Type;
use crate::ops::list::details::BackupDetails;
use crate::ops::list::{ListedContent, ListedRun, PlaceFault};

/// The most namespaces that are shown. --json has all of them.
const MOST_NAMESPACES: usize = 20;
/// The fewest characters of the names of indexes.
const INDEX_NAMES: usize = 12;

pub fn text(details: &BackupDetails, now: DateTime<Utc>, width: usize, colour: Colour) -> StyledText {
    let row = &details.backup;
    let mut text = StyledText::new(colour);
    let run = match &row.content {
        ListedContent::Run(run) => Some(run.as_ref()),
        ListedContent::Unreadable { .. } => None,
    };
    let of_job = run.map(|run| &run.job).filter(|job| !job.is_empty());
    let of_job = of_job.map(|job| format!(" of {}", escape::line(job))).unwrap_or_default();
    let what = match row.status {
        ShownStatus::Run(Status::Running | Status::Failed | Status::Interrupted) => "run",
        _ => "backup",
    };
    text.push(&format!("{what} {}{of_job}: ", row.id));
    text.paint(&row.status.to_string(), status_colour(row));
    text.push("\n");
    for (label, value) in facts(details, run, now) {
        let value = escape::line(&units::one_line(&value)).into_owned();
        text.push(format!("  {label:12}  {value}").trim_end());
        text.push("\n");
    }
    if let Some(manifest) = details.manifest.as_ref().filter(|manifest| !manifest.namespaces.is_empty()) {
        text.push("\n");
        text.push(&namespaces(&manifest.namespaces, width));
    }
    if let Some(losses) = details.manifest.as_ref().and_then(|manifest| manifest.losses.as_ref()) {
        text.push(&format!("\nvanished or shrank since the last good backup {}\n", losses.since));
        text.push(&losses_table(losses));
    }
    text
}

/// Everything but the namespaces, as labels and values.
fn facts(
    details: &BackupDetails,
    run: Option<&ListedRun>,
    now: DateTime<Utc>,
) -> Vec<(&'static str, String)> {
    let row = &details.backup;
    let mut facts = problems(details, run);
    facts.push(("place", details.place.clone()));
    if let Some(places) = &row.places {
        facts.push(("places", places_text(places)));
        let fault = |fault: &PlaceFault| ("fault", format!("in {}: {}", fault.place, fault.error));
        facts.extend(places.faults.iter().map(fault));
    }
    facts.extend(details.problems.iter().map(|problem| ("needs a look", problem.clone())));
    if run.is_none() {
        facts.push(("started", format!("{}, {} ago", time(row.id.started()), age(row.id.started(), now))));
    }
    if let Some(run) = run {
        facts.extend(run.host().map(|host| ("host", host.to_string())));
        facts.push(("started", format!("{}, {} ago", time(run.started_at), age(run.started_at, now))));
        facts.extend(run.finished_at.map(|at| ("ended", time(at))));
        facts.extend(run.took().map(|took| {
            let speed = run.raw_speed().filter(|_| run.timing.is_none());
            let speed = speed.map(|speed| format!(", {} raw", units::bytes_per_second(speed)));
            ("took", format!("{}{}", units::duration(took), speed.unwrap_or_default()))
        }));
        if let Some(raw_bytes) = run.raw_bytes {
            facts.push(("data", run.timing.map_or("-".into(), |timing| timing.sentence(raw_bytes))));
        }
    }
    match &details.manifest {
        Some(manifest) => facts.extend(contents(manifest)),
        None => facts.extend(run.map(recorded_facts).unwrap_or_default()),
    }
    match &details.verdict {
        Some(verdict) => facts.extend(verdict_facts(verdict, now)),
        None if details.manifest.is_some() => facts.push(("verified", "never".into())),
        None => {}
    }
    if row.pinned {
        let reason = row.pin_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        facts.push(("pinned", format!("{}{reason}", marked(details.pin.as_ref()))));
    }
    if details.accepted {
        facts.push(("accepted", marked(details.acceptance.as_ref())));
    }
    if details.being_deleted {
        facts.push(("deletion", "a cleanup has begun to delete the backup".into()));
    }
    facts.extend(run.iter().flat_map(|run| &run.warnings).map(|warning| ("needs a look", warning.clone())));
    let notes = details.manifest.as_ref().map(|manifest| &manifest.notes);
    let notes = notes.or(details.failure.as_ref().map(|failure| &failure.notes));
    // The table of losses says the same as their note.
    let losses = details.manifest.as_ref().and_then(|manifest| Some(manifest.losses.as_ref()?.note()));
    let notes = notes.into_iter().flatten().filter(|note| losses.as_ref() != Some(*note));
    facts.extend(notes.map(|note| ("note", note.clone())));
    facts
}

/// The fault of the backup, or why the run failed, and the next step.
fn problems(details: &BackupDetails, run: Option<&ListedRun>) -> Vec<(&'static str, String)> {
    let row = &details.backup;
    let (error, step) = match (&row.fault, &details.failure) {
        (Some(fault), _) => (Some(fault.why.clone()), fault.next_step(&row.id)),
        (None, Some(failure)) => (Some(failure.error.clone()), failure.next_step.clone()),
        (None, None) => match &row.content {
            ListedContent::Run(_) => (run.and_then(|run| run.error.clone()), None),
            ListedContent::Unreadable { error, .. } => (Some(error.clone()), None),
        },
    };
    let error = error.map(|error| ("error", error));
    error.into_iter().chain(step.map(|step| ("next step", step))).collect()
}

fn contents(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let (source, engine, artifact, totals) =
        (&manifest.source, &manifest.engine, &manifest.artifact, &manifest.totals);
    let of_set = source.set_name.as_ref().map(|name| format!(", replica set {name}")).unwrap_or_default();
    let fcv = source.feature_compatibility_version;
    let fcv = fcv.map(|fcv| format!(", feature compatibility version {fcv}")).unwrap_or_default();
    let version = engine.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let mut facts = vec![
        (
            "contents",
            format!(
                "{}, {}, {} raw, {} stored",
                units::several(totals.namespaces, "namespace"),
                units::several(totals.documents, "document"),
                units::bytes(totals.raw_bytes),
                units::bytes(artifact.size)
            ),
        ),
        ("artifact", artifact.key.clone()),
        ("format", artifact.compression()),
        ("server", format!("{}, MongoDB {}{fcv}{of_set}", source.member, source.version)),
        ("engine", format!("{}{version} ({})", engine.name, engine.why)),
        ("consistency", consistency(&manifest.consistency)),
    ];
    facts.extend(manifest.consistency.oplog.as_ref().map(|slice| {
        let (entries, stored) = (units::several(slice.entries, "entry"), units::bytes(slice.stored_bytes));
        let (from, to) = (slice.start.second(), slice.end.second());
        ("oplog slice", format!("{entries}, {stored} stored, from {from} to {to}"))
    }));
    let part = if manifest.partial { "; only a part of the job" } else { "" };
    let selection = match manifest.hides_details() {
        true => HIDDEN.into(),
        false => manifest.selection.to_string(),
    };
    facts.extend([("selection", format!("{selection}{part}")), ("made by", manifest.tool.clone())]);
    facts.extend(manifest.encryption.as_ref().map(|encryption| {
        let step = if manifest.hides_details() { "; --identity shows the namespaces" } else { "" };
        ("encrypted", format!("to {}{step}", encryption.recipients.join(", ")))
    }));
    facts
}

fn consistency(consistency: &ConsistencyAchieved) -> String {
    let at = match consistency.at {
        Some(at) => format!("all data is as of {}", at.second()),
        None => "each collection was read at its own time".into(),
    };
    format!("{}: {at} ({})", consistency.achieved, consistency.why)
}

/// What the records know about a run without a manifest.
fn recorded_facts(run: &ListedRun) -> Vec<(&'static str, String)> {
    let counts = [
        run.documents.map(|documents| units::several(documents, "document")),
        run.stored_bytes.map(|bytes| format!("{} stored", units::bytes(bytes))),
    ];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let facts = [
        ("contents", Some(counts.join(", ")).filter(|counts| !counts.is_empty())),
        ("engine", run.engine.clone()),
        ("consistency", run.consistency.clone()),
    ];
    facts.into_iter().filter_map(|(label, value)| Some((label, value?))).collect()
}

fn verdict_facts(verdict: &Verdict, now: DateTime<Utc>) -> Vec<(&'static str, String)> {
    let word = if verdict.findings.is_empty() { "sound" } else { "DAMAGED" };
    let word = if verdict.without_key { format!("{word} as stored, without the key") } else { word.into() };
    let ago = |at: DateTime<Utc>| format!("{}, {} ago", time(at), age(at, now));
    let mut facts = vec![("verified", format!("{word}, {}", ago(verdict.at)))];
    facts.extend(verdict.findings.iter().map(|finding| ("", finding.clone())));
    if let Some(drill) = &verdict.drill {
        let took = units::duration(std::time::Duration::from_secs_f64(drill.recovery_seconds.max(0.0)));
        let outcome = if drill.is_sound() { "no differences" } else { "DIFFERENCES" };
        let (target, rate) =
            (format!("{} {}", drill.target, drill.version), units::bytes_per_second(drill.speed()));
        facts.push((
            "drill",
            format!("{outcome}, {}, restored into {target} in {took}, {rate} raw", ago(drill.at)),
        ));
        let point = drill.point.as_ref().map(|point| {
            let slices = units::several(point.slices, "oplog slice");
            format!("with {slices}, up to {}", point.at.second())
        });
        facts.extend(point.map(|point| ("", point)));
        facts.extend(drill.wrong().chain(&drill.notes).map(|text| ("", text.clone())));
    }
    facts
}

/// Who set a mark, and when.
fn marked(mark: Option<&Mark>) -> String {
    mark.map_or("yes".into(), |mark| format!("{}, on {}", time(mark.at), mark.host))
}

/// The largest namespaces, in a table.
fn namespaces(namespaces: &[NamespaceEntry], width: usize) -> String {
    let mut sorted: Vec<&NamespaceEntry> = namespaces.iter().collect();
    sorted.sort_by(|a, b| (b.raw_bytes, a.name()).cmp(&(a.raw_bytes, b.name())));
    let mut rows: Vec<Vec<String>> = sorted.iter().take(MOST_NAMESPACES).map(|entry| cells(entry)).collect();
    let head = ["namespace", "documents", "raw", "stored", "indexes"];
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default() + 2
    };
    let room = width.saturating_sub((0..4).map(widest).sum()).max(INDEX_NAMES);
    rows.iter_mut().for_each(|row| row[4] = units::brief_text(&row[4], room));
    let mut text = columns(&head, &rows, &[1, 2, 3]);
    if namespaces.len() > MOST_NAMESPACES {
        let more = units::several((namespaces.len() - MOST_NAMESPACES) as u64, "smaller namespace");
        text.push_str(&format!("and {more} (--json lists all)\n"));
    }
    text
}

/// The namespaces that vanished or shrank, the largest loss first.
fn losses_table(losses: &Losses) -> String {
    let row = |loss: &NamespaceLoss| {
        let (before, now) = loss.amounts();
        vec![escape::line(&loss.namespace).into_owned(), before, now]
    };
    let rows: Vec<Vec<String>> = losses.namespaces.iter().map(row).collect();
    let mut text = columns(&["namespace", "before", "now"], &rows, &[1, 2]);
    let more = losses.count.saturating_sub(rows.len() as u64);
    if more > 0 {
        text.push_str(&format!("and {}\n", units::several(more, "more namespace")));
    }
    text
}

fn cells(entry: &NamespaceEntry) -> Vec<String> {
    let names: Vec<&str> = entry.indexes.iter().map(|index| index.name.as_str()).collect();
    let indexes = match (entry.kind, names.len()) {
        (Type::View, _) => "view".into(),
        (_, 0) => "none".into(),
        (_, count) => format!("{count}: {}", names.join(", ")),
    };
    let (documents, raw, stored) =
        (units::count(entry.documents), units::bytes(entry.raw_bytes), units::bytes(entry.stored_bytes));
    let name = escape::line(&entry.name()).into_owned();
    vec![name, documents, raw, stored, escape::line(&indexes).into_owned()]
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%F %T UTC").to_string()
}

fn age(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    units::duration((now - at).to_std().unwrap_or_default())
}
