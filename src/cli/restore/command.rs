//! The command that goes on with a restore if it is interrupted.

use std::path::PathBuf;

use super::super::args::{BackupsOf, Common, RestoreArgs};
use crate::model::id::BackupId;
use crate::model::optime::OpTime;

/// The words of the command after `uzima-backup restore`. `backup` is the id of the chosen backup, and `point` the last optime that is
/// replayed: `latest` and `newest` may be others later. A new argument does not compile until it is here.
pub(super) fn that_goes_on(
    args: &RestoreArgs,
    common: &Common,
    backup: Option<&BackupId>,
    point: Option<OpTime>,
) -> Vec<String> {
    let RestoreArgs {
        which: _,
        from,
        backups: BackupsOf { job, dir, place },
        identity,
        allow_unsigned,
        to_uri,
        ns_include,
        ns_exclude,
        ns_from,
        ns_to,
        drop,
        exact,
        no_indexes,
        convert_legacy_indexes,
        no_index,
        no_replay,
        at,
        before,
        users,
        no_users,
        yes,
        // These do not restore, or cannot be continued.
        continues: _,
        filter: _,
        merge: _,
        swap: _,
        undo: _,
        discard: _,
        kept: _,
        dry_run: _,
    } = args;
    // The log and the form of the output have no influence on the restore.
    let Common { config, json: _, quiet: _, log_file: _, verbose: _ } = common;
    let newest = point.map(|point| format!("{}:{}", point.t, point.i));
    let at = at.as_ref().map(|at| match at.as_str() {
        "newest" => newest.unwrap_or_else(|| at.clone()),
        at => at.into(),
    });
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let mut words: Vec<String> = backup.map(ToString::to_string).into_iter().collect();
    let mut value = |flag: &str, value: Option<String>| match value {
        // A value that begins with a dash would be taken for a flag.
        Some(value) if value.starts_with('-') => words.push(format!("{flag}={value}")),
        Some(value) => words.extend([flag.to_string(), value]),
        None => {}
    };
    value("--from", path(from));
    value("--at", at);
    value("--before", before.clone());
    value("--job", job.clone());
    value("--dir", path(dir));
    value("--place", place.clone());
    value("--identity", path(identity));
    value("--allow-unsigned", allow_unsigned.as_ref().map(ToString::to_string));
    value("--to-uri", to_uri.clone());
    ns_include.iter().for_each(|pattern| value("--ns-include", Some(pattern.clone())));
    ns_exclude.iter().for_each(|pattern| value("--ns-exclude", Some(pattern.clone())));
    ns_from.iter().for_each(|pattern| value("--ns-from", Some(pattern.clone())));
    ns_to.iter().for_each(|pattern| value("--ns-to", Some(pattern.clone())));
    no_index.iter().for_each(|pattern| value("--no-index", Some(pattern.clone())));
    value("--config", path(config));
    let flags = [
        // What --exact drops beside the backup's namespaces is dropped last, and only by a whole restore.
        ("--drop", *drop || *exact),
        ("--no-indexes", *no_indexes),
        ("--convert-legacy-indexes", *convert_legacy_indexes),
        ("--no-replay", *no_replay),
        ("--users", *users),
        ("--no-users", *no_users),
        ("--yes", *yes),
        ("--continue", true),
    ];
    words.extend(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| flag.to_string()));
    words
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn goes_on(line: &str) -> String {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Restore(args) = &cli.command else { panic!("{line}") };
        let id = "20261123T030000Z-7k3q9d".parse().unwrap();
        let words = that_goes_on(args, &cli.common, Some(&id), Some(OpTime { t: 7, i: 1 })).join(" ");
        // It is a command, and the same one again after another interruption.
        let again = Cli::try_parse_from(format!("uzima-backup restore {words}").split(' ')).unwrap();
        let Command::Restore(args) = &again.command else { panic!("{words}") };
        let twice = that_goes_on(args, &again.common, Some(&id), Some(OpTime { t: 8, i: 1 })).join(" ");
        assert_eq!(words, twice);
        words
    }

    #[test]
    fn the_command_that_goes_on_names_the_backup_and_the_point() {
        let id = "20261123T030000Z-7k3q9d";
        assert_eq!(goes_on("uzima-backup restore latest --yes"), format!("{id} --yes --continue"));
        assert_eq!(
            goes_on("uzima-backup restore --at newest --job x --exact"),
            format!("{id} --at 7:1 --job x --drop --continue")
        );
        let all = "--before 9:1 --dir d --place p --identity i --ns-include a.b --ns-exclude=-c --ns-from a.* --ns-to b.* --no-index \
                   a.b.c --config f --drop --no-indexes --convert-legacy-indexes --users --yes --continue";
        let all = all.replace(" --place p", "");
        assert_eq!(goes_on(&format!("uzima-backup restore latest {all}")), format!("{id} {all}"));
    }
}
