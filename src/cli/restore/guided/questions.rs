//! The questions, each with the pure part of its answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::options;
use super::labels::{self, Moment};
use super::person::{Check, Entry, Person, Reply, width};
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::suggest::escaped;
use crate::cli::args::RestoreArgs;
use crate::config::Config;
use crate::config::table::Raw;
use crate::ops::restore::{self, BackupNamespace, DocumentFilter, RestoreFilter};
use crate::ops::timeline::TimelineReport;

/// Returns the answer, or returns from the function if the person goes back.
macro_rules! answered {
    ($reply:expr) => {
        match $reply {
            Reply::Answer(answer) => answer,
            Reply::Back => return Ok(Reply::Back),
        }
    };
}

/// A check that accepts what `parse` accepts.
fn check<T>(parse: impl Fn(&str) -> Result<T> + Send + Sync + 'static) -> Check {
    Arc::new(move |text| parse(text).map(drop).map_err(|error| error.chain_with_step()))
}

/// Asks for a moment of the timeline. Sets `--at` or `--before`.
pub(super) async fn moment(
    person: &mut impl Person,
    report: &TimelineReport,
    args: &mut RestoreArgs,
) -> Result<Reply<()>> {
    let (moments, entries) = labels::moments(report, width(person));
    loop {
        let moment = answered!(person.picks("Which moment? (UTC)", entries.clone(), 0).await?);
        (args.which, args.at, args.before) = (None, None, None);
        match moments[moment].clone() {
            Moment::At(at) => args.at = Some(at),
            Moment::Before(before) => args.before = Some(before),
            Moment::Other => {
                let question = "A time (2026-11-24T14:00:00Z), or seconds:ordinal:";
                match person.writes(question, "", check(super::super::point_at)).await? {
                    Reply::Answer(at) => args.at = Some(at),
                    Reply::Back => continue,
                }
            }
        }
        return Ok(Reply::Answer(()));
    }
}

/// Asks for the namespaces. Sets `--ns-include`. `whole`: a database of which all is chosen becomes one pattern.
pub(super) async fn namespaces(
    person: &mut impl Person,
    contents: &Arc<Vec<BackupNamespace>>,
    whole: bool,
    args: &mut RestoreArgs,
) -> Result<Reply<()>> {
    loop {
        args.ns_include.clear();
        let entries = [
            &format!("all: {}", labels::sums(contents)),
            "some, from a list",
            "some, by patterns such as shop.*",
        ];
        let entries = entries.iter().map(|text| Entry::of(text)).collect();
        let chosen = match answered!(person.picks("Which namespaces?", entries, 0).await?) {
            0 => Reply::Answer(Vec::new()),
            1 => {
                let entries = labels::namespaces(contents, width(person));
                match person.picks_some("Which of them?", entries).await? {
                    Reply::Answer(picked) => Reply::Answer(patterns(contents, &picked, whole)),
                    Reply::Back => Reply::Back,
                }
            }
            _ => {
                let names = Arc::clone(contents);
                let parse = move |text: &str| check_patterns(text, &names, whole);
                match person.writes("Patterns, separated by commas:", "", check(parse)).await? {
                    Reply::Answer(text) => Reply::Answer(split(&text)),
                    Reply::Back => Reply::Back,
                }
            }
        };
        if let Reply::Answer(include) = chosen {
            args.ns_include = include;
            return Ok(Reply::Answer(()));
        }
    }
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_string).collect()
}

/// Refuses patterns that match nothing. At a point in time, they may match collections that were created after the backup, so
/// that only their form is checked here.
fn check_patterns(text: &str, contents: &[BackupNamespace], all_known: bool) -> Result<()> {
    let include = split(text);
    if include.is_empty() {
        return Err(Error::usage("there is no pattern").hint("A pattern such as shop.* or shop.orders"));
    }
    let filter = options(&RestoreArgs { ns_include: include, ..RestoreArgs::default() })?.filter;
    match all_known {
        true => filter.choose(contents, &BTreeSet::new()).map(drop),
        false => Ok(()),
    }
}

/// The patterns for the picked namespaces, in their order: a name, or `db.*` if `whole` and several collections of the database
/// exist and all are picked.
fn patterns(contents: &[BackupNamespace], picked: &[usize], whole: bool) -> Vec<String> {
    let of_db = |db: &str| contents.iter().filter(|one| one.db == db).count();
    let picked_of = |db: &str| picked.iter().filter(|at| contents[**at].db == db).count();
    let mut databases = BTreeSet::new();
    let mut patterns = Vec::new();
    // The namespaces of a database are counted once, at its first one.
    let mut whole_databases = BTreeSet::new();
    for at in picked {
        let one = &contents[*at];
        if databases.insert(&one.db) && whole && of_db(&one.db) > 1 && of_db(&one.db) == picked_of(&one.db) {
            whole_databases.insert(&one.db);
            patterns.push(format!("{}.*", escaped(&one.db)));
        }
        if !whole_databases.contains(&one.db) {
            patterns.push(escaped(&one.name()));
        }
    }
    patterns
}

/// Asks for a filter for documents. Sets `--filter`.
pub(super) async fn documents(person: &mut impl Person, args: &mut RestoreArgs) -> Result<Reply<()>> {
    let parse = |text: &str| if text.is_empty() { Ok(()) } else { DocumentFilter::parse(text).map(drop) };
    let question = "Filter for documents (Extended JSON; empty: all):";
    let initial = args.filter.clone().unwrap_or_default();
    let filter = answered!(person.writes(question, &initial, check(parse)).await?);
    args.filter = Some(filter).filter(|filter| !filter.is_empty());
    Ok(Reply::Answer(()))
}

/// Asks for the target. Sets `--to-uri`. `config` has no target of this question.
pub(super) async fn target(
    person: &mut impl Person,
    config: &Arc<Config>,
    args: &mut RestoreArgs,
) -> Result<Reply<()>> {
    loop {
        args.to_uri = None;
        let (mut entries, mut uris) = (Vec::new(), Vec::new());
        if let Ok(configured) = &config.restore_target {
            let what = if configured.is_source { "the server that is backed up" } else { "RESTORE_URI" };
            entries.push(Entry::of(&escape::line(&format!("{} ({what})", configured.servers))));
            uris.push(None);
        }
        if let Some((servers, uri)) = other_source(config) {
            let text = format!("{servers} (the server that is backed up)");
            entries.push(Entry::of(&escape::line(&text)));
            uris.push(Some(uri));
        }
        entries.push(Entry::of("another server"));
        let picked = answered!(person.picks("Into which server?", entries, 0).await?);
        if let Some(uri) = uris.get(picked) {
            args.to_uri = uri.clone();
            return Ok(Reply::Answer(()));
        }
        let settings = Arc::clone(config);
        let parse = move |text: &str| with_target(&settings, text).restore_target.map(drop);
        if let Reply::Answer(uri) =
            person.writes("Its connection string (mongodb://…):", "", check(parse)).await?
        {
            args.to_uri = Some(uri);
            return Ok(Reply::Answer(()));
        }
    }
}

/// The settings with the target that `--to-uri` names.
pub(super) fn with_target(config: &Config, uri: &str) -> Config {
    config.with_flag("restore_uri", Raw::Text(uri.into()))
}

/// The server that is backed up, if another target is configured, and its connection string may be on a command line.
fn other_source(config: &Config) -> Option<(String, String)> {
    let configured = config.restore_target.as_ref().ok()?;
    let uri = config.layers.text("mongo_uri").filter(|_| config.layers.is_set("mongo_uri"))?;
    let target = with_target(config, uri).restore_target.ok()?;
    (!configured.is_source).then(|| (target.servers, uri.to_string()))
}

/// Asks for the names at the target. Sets `--ns-from` and `--ns-to`. With `beside`, the names as they are do not help.
pub(super) async fn names(
    person: &mut impl Person,
    databases: &BTreeSet<String>,
    beside: bool,
    args: &mut RestoreArgs,
) -> Result<Reply<()>> {
    let (from, to) = suggested(databases);
    loop {
        let renamed = format!("{from} as {to}");
        let mut entries = vec![Entry::of(&escape::line(&renamed)), Entry::of("other names")];
        if !beside {
            entries.insert(0, Entry::of("as they are"));
        }
        let picked = answered!(person.picks("Under which names?", entries, 0).await?) + usize::from(beside);
        // A way back keeps the names: without them, the live namespaces would be meant.
        (args.ns_from, args.ns_to) = match picked {
            0 => Default::default(),
            1 => (vec![from.clone()], vec![to.clone()]),
            _ => match typed_names(person, &from, &to).await? {
                Reply::Answer((from, to)) => (vec![from], vec![to]),
                Reply::Back => continue,
            },
        };
        return Ok(Reply::Answer(()));
    }
}

async fn typed_names(person: &mut impl Person, from: &str, to: &str) -> Result<Reply<(String, String)>> {
    let of_itself = |text: &str| {
        let texts = [text.to_string()];
        restore::pairs(&texts, &texts).map(drop).map_err(Error::usage)
    };
    loop {
        let question = "Rename the namespaces that match:";
        let from = answered!(person.writes(question, &shown(from), check(of_itself)).await?);
        let pattern = from.clone();
        let parse = move |text: &str| {
            restore::pairs(std::slice::from_ref(&pattern), &[text.to_string()]).map_err(Error::usage)
        };
        if let Reply::Answer(to) = person.writes("to:", to, check(parse)).await? {
            return Ok(Reply::Answer((from, to)));
        }
    }
}

/// A pattern as the beginning of an answer: one with characters that control a terminal is left out.
fn shown(pattern: &str) -> String {
    if pattern.contains(escape::steers) { String::new() } else { pattern.into() }
}

/// A rename that keeps the names of collections.
fn suggested(databases: &BTreeSet<String>) -> (String, String) {
    match databases.first() {
        Some(db) if databases.len() == 1 => {
            let new = if db == "rescue" { "rescue2" } else { "rescue" };
            (format!("{}.*", escaped(db)), format!("{new}.*"))
        }
        _ => ("*".into(), "rescue_*".into()),
    }
}

/// The databases of the namespaces that are restored. Without a valid filter, those of all.
pub(super) fn databases(contents: &[BackupNamespace], args: &RestoreArgs) -> BTreeSet<String> {
    let all = || contents.iter().map(|one| one.db.clone()).collect();
    let filter = options(args).map(|options| RestoreFilter { rename: Vec::new(), ..options.filter });
    let chosen = filter.and_then(|filter| filter.choose(contents, &BTreeSet::new()));
    chosen.map_or_else(|_| all(), |chosen| chosen.into_iter().map(|one| one.db).collect())
}

/// What happens to namespaces that exist at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Beside,
    Merge,
    Swap,
    Drop,
}

impl Existing {
    fn text(self) -> &'static str {
        match self {
            Existing::Beside => "beside: restore under other names; nothing that exists changes",
            Existing::Merge => "merge: insert only documents whose _id is missing; the others stay",
            Existing::Swap => "swap: exchange with the live ones when all is loaded; those are kept",
            Existing::Drop => "drop: delete what is there before it is restored; it is lost",
        }
    }

    /// The ways that the other arguments allow.
    fn allowed(args: &RestoreArgs) -> Vec<Existing> {
        let renamed = !args.ns_from.is_empty();
        let whole = args.exact || args.users || args.continues;
        let swaps = !(renamed || whole || args.filter.is_some());
        let mut ways = vec![Existing::Beside];
        ways.extend((!whole).then_some(Existing::Merge));
        ways.extend(swaps.then_some(Existing::Swap));
        ways.push(Existing::Drop);
        ways
    }
}

/// Asks what happens to existing data. Sets `--merge`, `--swap` or `--drop`.
pub(super) async fn existing(person: &mut impl Person, args: &mut RestoreArgs) -> Result<Reply<Existing>> {
    let ways = Existing::allowed(args);
    let entries = ways.iter().map(|way| Entry::of(way.text())).collect();
    let way = ways[answered!(person.picks("What happens to it?", entries, 0).await?)];
    args.merge = way == Existing::Merge;
    args.swap = way == Existing::Swap;
    args.drop = way == Existing::Drop;
    Ok(Reply::Answer(way))
}

#[cfg(test)]
mod tests;
