//! `uzima-backup __complete`: values for the last word of a command line, for the completions of the shells.
//!
//! Backup ids, jobs and namespaces come from the files about the place in the state directory, and the names of places from the
//! settings. The store and MongoDB are never asked, and the directory of the backups is not touched, because its disk may hang.
//! The files may contain anything: only valid ids, and names that no shell expands, are printed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Arg;

use crate::catalog::place_files::{KnownBackups, cached_jobs, cached_namespaces};
use crate::config::machine::Machine;
use crate::config::{Config, Env, Raw, check_job};
use crate::model::id::BackupId;

/// The first argument, which is not part of the documented command line.
pub const COMMAND: &str = "__complete";

/// The most namespaces that are offered.
const MOST_NAMESPACES: usize = 10_000;

/// The values for the last of these words, which follow the name of the tool: a value and a description in each line, with a
/// tab between them.
pub fn offers(words: &[OsString], env: Env<'_>) -> String {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let lines = Wanted::by(&words).and_then(|wanted| wanted.lines(env)).unwrap_or_default();
    lines.into_iter().map(|line| line + "\n").collect()
}

#[derive(Debug, PartialEq, Eq)]
enum OfferKind {
    Ids,
    LatestAndIds,
    Jobs,
    Places,
    Namespaces,
}

/// A question of a shell.
#[derive(Debug)]
struct Wanted {
    kind: OfferKind,
    /// The values of the arguments before the last word.
    values: BTreeMap<String, String>,
}

impl Wanted {
    /// Finds out what the last word can be. `None` if it is nothing that this machine remembers.
    fn by(words: &[String]) -> Option<Wanted> {
        let (last, before) = words.split_last()?;
        let mut tool = super::command();
        tool.build();
        let (mut command, mut positionals, mut values) = (&tool, 0, BTreeMap::new());
        let mut open: Option<&Arg> = None;
        for word in before {
            // Bash makes `=` a word of its own.
            if word == "=" {
                continue;
            }
            if let Some(flag) = open.take() {
                values.insert(flag.get_id().to_string(), unquoted(word));
            } else if let Some(flag) = word.strip_prefix("--") {
                let (name, value) =
                    flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
                let flag = command.get_arguments().find(|arg| arg.get_long() == Some(name))?;
                match value {
                    Some(value) => drop(values.insert(flag.get_id().to_string(), unquoted(value))),
                    None => open = Some(flag).filter(|flag| flag.get_action().takes_values()),
                }
            } else if word.starts_with('-') {
                let name = word.chars().last();
                let flag = command.get_arguments().find(|arg| arg.get_short() == name);
                open = flag.filter(|flag| flag.get_action().takes_values());
            } else if let Some(subcommand) = command.find_subcommand(word).filter(|_| positionals == 0) {
                command = subcommand;
            } else {
                let positional = command.get_positionals().nth(positionals);
                values.extend(positional.map(|arg| (arg.get_id().to_string(), unquoted(word))));
                positionals += 1;
            }
        }
        let of = |arg: &Arg| match arg.get_id().as_str() {
            "job" => Some(OfferKind::Jobs),
            "place" => Some(OfferKind::Places),
            "to" | "from" if command.get_name() == "copy" => Some(OfferKind::Places),
            "include" | "exclude" | "ns_include" | "ns_exclude" | "ns" | "namespace" => {
                Some(OfferKind::Namespaces)
            }
            "which" | "from_backup" | "to_backup" => Some(OfferKind::LatestAndIds),
            "accept" | "allow_unsigned" => Some(OfferKind::Ids),
            _ => None,
        };
        let assigned = last.strip_prefix("--").and_then(|flag| flag.split_once('='));
        let arg = match (open, assigned) {
            (Some(flag), _) => Some(flag),
            (None, Some((name, _))) => command.get_arguments().find(|arg| arg.get_long() == Some(name)),
            (None, None) if last.starts_with('-') => None,
            (None, None) => command.get_positionals().nth(positionals),
        };
        Some(Wanted { kind: of(arg?)?, values })
    }

    fn lines(&self, env: Env<'_>) -> Option<Vec<String>> {
        let value = |name: &str| self.values.get(name).map(|path| at_home(path, env));
        let flags = value("dir").map(|dir| ("dir", Raw::Text(dir))).into_iter().collect();
        let file = value("config").map(PathBuf::from);
        let config =
            Config::load(flags, env, std::iter::empty(), file.as_deref(), &Machine::read(env)).ok()?;
        if self.kind == OfferKind::Places {
            let names = config.place_names().into_iter().filter(|name| is_plain(name));
            return Some(names.map(String::from).collect());
        }
        let config = match self.values.get("place") {
            Some(name) => config.at(name).ok()?,
            None => config,
        };
        let configured = config.layers.text("job").map(str::to_string);
        let (state_dir, place) = (config.state_dir?, config.place.ok()?.name());
        let wanted = self.values.get("job");
        if self.kind == OfferKind::Namespaces {
            let named = ["to_backup", "which"].into_iter().find_map(|name| self.values.get(name));
            let named: Option<BackupId> = named.and_then(|word| word.parse().ok());
            let job = wanted.or(configured.as_ref());
            let names = cached_namespaces(&state_dir, &place, |id, of| match &named {
                Some(named) => id == named,
                None => job.is_none_or(|job| job == of),
            });
            return Some(names.into_iter().filter(|name| is_plain(name)).take(MOST_NAMESPACES).collect());
        }
        let known = KnownBackups::load(Some(&state_dir), &place)?.backups;
        let mut jobs = cached_jobs(&state_dir, &place);
        jobs.retain(|id, job| known.contains(id) && check_job(job).is_ok());
        if self.kind == OfferKind::Jobs {
            return Some(jobs.into_values().collect::<BTreeSet<_>>().into_iter().collect());
        }
        let fits = |job: Option<&String>| wanted.is_none() || job.is_none() || job == wanted;
        let all = known.iter().rev().map(|id| (id, jobs.get(id)));
        let ids = all.filter(|(_, job)| fits(*job)).map(|(id, job)| match job {
            Some(job) => format!("{id}\t{job}"),
            None => id.to_string(),
        });
        let latest = self.kind == OfferKind::LatestAndIds && !known.is_empty();
        let latest = latest.then(|| "latest".to_string());
        Some(latest.into_iter().chain(ids).collect())
    }
}

/// Returns true for a name that no shell expands.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && name.chars().all(plain)
}

/// A word as the user typed it, without quotes around it.
fn unquoted(word: &str) -> String {
    let inner = |quote: char| word.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(word).to_string()
}

/// A path as the user typed it: the shell has not replaced `~` yet.
fn at_home(path: &str, env: Env<'_>) -> String {
    let home = env("HOME").and_then(|home| home.into_string().ok());
    match (path.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => format!("{home}/{below}"),
        _ => path.to_string(),
    }
}
