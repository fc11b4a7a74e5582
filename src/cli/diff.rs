//! `uzima-backup diff`.

use std::sync::Arc;

use indicatif::MultiProgress;

use super::args::DiffArgs;
use super::identity::identities;
use super::output::{self, Output};
use super::progress::Display;
use super::{job_meant, units};
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::base::keys::Identities;
use crate::base::progress::Meter;
use crate::catalog::CatalogOptions;
use crate::catalog::choose::WhichBackup;
use crate::notify::run::Run;
use crate::ops::diff::{
    self, DiffKind, DiffOptions, DiffReport, DiffScope, DiffSide, DiffedBackup, DocumentChanges,
    NamespaceDiff,
};
use crate::ops::places::{FoundBackup, Places, Purpose};
use crate::ops::restore::StoredBackup;

/// The longest `_id` in the text, in characters.
const LONGEST_ID: usize = 200;

pub async fn run(args: &DiffArgs, run: &Run<'_>, output: &Output, bars: &MultiProgress) -> Result<Exit> {
    let options = DiffOptions {
        scope: DiffScope::of(args.ns.as_deref()),
        documents: args.documents,
        limit: args.limit.get(),
        memory: diff::MEMORY,
        scratch: std::env::temp_dir(),
    };
    let places = Places::open_existing(run.config).await?;
    let reading = run.reading()?;
    let from = choose(&args.from_backup, args, run, &places, &reading).await?;
    let to = choose(&args.to_backup, args, run, &places, &reading).await?;
    let encrypted = [&from, &to].iter().any(|found| found.manifest.encryption.is_some());
    let keys = if encrypted { identities(run.config, run.cancel).await? } else { None };
    let from = side(from, args, &places, keys.as_ref()).await?;
    let to = side(to, args, &places, keys.as_ref()).await?;
    let meter = Arc::new(Meter::default());
    let display = Display::start(meter.clone(), output.interactive(), bars);
    let compared = diff::diff([from, to], &options, &meter).await;
    drop(display);
    let report = compared?;
    output.result(&report, || text(&report));
    if output.quiet {
        report.problems.iter().for_each(|problem| output::needs_look(problem));
    }
    Ok(report.exit())
}

/// Chooses one of the two backups, as a restore does.
async fn choose<'a>(
    which: &WhichBackup,
    args: &DiffArgs,
    run: &Run<'_>,
    places: &'a Places,
    reading: &CatalogOptions,
) -> Result<FoundBackup<'a>> {
    let job = job_meant(which, args.backups.job.as_deref(), run.config);
    places.choose_backup(which, job, reading, Purpose::Restore).await
}

/// Reads of a backup what the comparison needs.
async fn side(
    found: FoundBackup<'_>,
    args: &DiffArgs,
    places: &Places,
    keys: Option<&Identities>,
) -> Result<DiffSide> {
    let FoundBackup { place, manifest, passed_over, .. } = found;
    if !(manifest.encryption.is_some() || args.documents) {
        return Ok(DiffSide::of_manifest(manifest, place.store.place(), passed_over));
    }
    let replicas = places.replicas(place, &manifest.id, passed_over).await;
    match args.documents {
        true => Ok(DiffSide::of_stored(StoredBackup::open(replicas, manifest, keys).await?)),
        false => DiffSide::of_encrypted(replicas, manifest, keys).await,
    }
}

fn text(report: &DiffReport) -> String {
    let mut text = String::new();
    push_line(&mut text, &format!("from {}", backup(&report.from)));
    push_line(&mut text, &format!("to   {}", backup(&report.to)));
    if let Some(changed) = &report.source_changed {
        push_line(&mut text, &format!("the backups are of different servers: {changed}"));
    }
    if !report.namespaces.is_empty() {
        let head = ["namespace", "change", "before", "documents", "raw before", "raw", "what"];
        let rows: Vec<Vec<String>> = report.namespaces.iter().map(row).collect();
        text.push('\n');
        text.push_str(&output::columns(&head, &rows, &[2, 3, 4, 5]));
        text.push('\n');
    }
    for namespace in &report.namespaces {
        if let Some(contents) = &namespace.contents {
            push_contents(&mut text, &namespace.namespace, contents);
        }
    }
    for problem in &report.problems {
        push_line(&mut text, &format!("needs a look: {problem}"));
    }
    push_line(&mut text, &summary(report));
    text
}

fn backup(backup: &DiffedBackup) -> String {
    let began = backup.started_at.format("%Y-%m-%d %H:%M:%S UTC");
    format!("{} of {}, begun {began}", backup.id, backup.job)
}

fn row(diff: &NamespaceDiff) -> Vec<String> {
    let number = |n: Option<u64>| n.map_or_else(|| "-".into(), units::count);
    let size = |n: Option<u64>| n.map_or_else(|| "-".into(), units::bytes);
    vec![
        diff.namespace.clone(),
        diff.change.word().into(),
        number(diff.documents_before),
        number(diff.documents),
        size(diff.raw_bytes_before),
        size(diff.raw_bytes),
        differences(diff),
    ]
}

/// What differs, in a few words.
fn differences(diff: &NamespaceDiff) -> String {
    if diff.change != DiffKind::Changed {
        return if diff.selected {
            String::new()
        } else {
            "left out by the selection of the other backup".into()
        };
    }
    let facts = [
        (diff.recreated, "another UUID"),
        (diff.type_changed, "type"),
        (diff.documents_changed, "documents"),
        (diff.options_changed, "options"),
    ];
    let mut words: Vec<String> =
        facts.iter().filter(|(differs, _)| *differs).map(|(_, word)| word.to_string()).collect();
    for (names, sign) in
        [(&diff.indexes_added, "+"), (&diff.indexes_removed, "-"), (&diff.indexes_changed, "~")]
    {
        words.extend(names.iter().map(|name| format!("index {sign}{name}")));
    }
    words.join(", ")
}

fn push_contents(text: &mut String, namespace: &str, contents: &DocumentChanges) {
    let DocumentChanges { added, removed, changed, touched, without_id, .. } = contents;
    let count = |n: &u64| units::count(*n);
    let mut line = format!(
        "{namespace}: {} added, {} removed, {} changed",
        count(added),
        count(removed),
        count(changed)
    );
    if *touched > 0 {
        line.push_str(&format!(", {} of them written by an oplog slice", count(touched)));
    }
    if *without_id > 0 {
        line.push_str(&format!(", {} of them without an _id", count(without_id)));
    }
    push_line(text, &line);
    let lists = [
        ("added  ", *added, &contents.added_ids),
        ("removed", *removed, &contents.removed_ids),
        ("changed", *changed, &contents.changed_ids),
    ];
    for (word, all, ids) in lists {
        for id in ids {
            push_line(text, &format!("  {word} {}", shortened(id)));
        }
        let more = all - ids.len() as u64;
        if more > 0 && !ids.is_empty() {
            push_line(text, &format!("  {word} and {} more (--limit)", units::count(more)));
        }
    }
}

/// Cuts a long `_id`. Its spaces stay, because they are part of the value.
fn shortened(id: &str) -> String {
    match id.char_indices().nth(LONGEST_ID) {
        Some((end, _)) => format!("{}…", &id[..end]),
        None => id.to_string(),
    }
}

/// `3 namespaces differ (1 added, 2 changed), 40 are equal`.
fn summary(report: &DiffReport) -> String {
    let count = |kind| report.namespaces.iter().filter(|diff| diff.change == kind).count() as u64;
    let parts =
        [DiffKind::Added, DiffKind::Removed, DiffKind::Changed].map(|kind| (count(kind), kind.word()));
    let parts: Vec<String> = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{} {word}", units::count(*n)))
        .collect();
    let equal = match report.equal {
        1 => "1 is equal".to_string(),
        n => format!("{} are equal", units::count(n)),
    };
    match report.namespaces.len() as u64 {
        0 => format!("no namespace differs, {equal}"),
        1 => format!("1 namespace differs ({}), {equal}", parts.join(", ")),
        n => format!("{} differ ({}), {equal}", units::several(n, "namespace"), parts.join(", ")),
    }
}
