//! The command line of a restore: the one that does the same as the answers of a person, and the one that goes on with an interrupted
//! restore.

use std::path::PathBuf;

use super::super::args::{BackupsOf, Common, RestoreArgs};
use crate::base::escape;
use crate::catalog::choose::WhichBackup;
use crate::model::id::BackupId;
use crate::model::optime::OpTime;

/// Words that belong on one line, such as a flag and its value.
type Part = Vec<String>;

/// The command line of `restore` with these arguments, for a shell. Lines after the first begin with four spaces, and no line is
/// longer than `width` if its words allow that.
pub(super) fn command_line(args: &RestoreArgs, common: &Common, width: usize) -> String {
    let parts = parts(args, common).into_iter();
    let parts = parts.map(|part| part.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
    let (mut text, mut length) = (String::from("uzima-backup"), "uzima-backup".len());
    for part in parts {
        let columns = console::measure_text_width(&part);
        // Two columns for the backslash at the end of the line.
        if length + 1 + columns + 2 > width {
            text.push_str(" \\\n    ");
            length = 4 + columns;
        } else {
            text.push(' ');
            length += 1 + columns;
        }
        text.push_str(&part);
    }
    text
}

/// The words after `uzima-backup restore` of the command that goes on with a restore if it is interrupted. `backup` is the id of the
/// chosen backup, and `point` the last optime that is replayed: `latest` and `newest` may be others later.
pub(super) fn that_goes_on(
    args: &RestoreArgs,
    common: &Common,
    backup: Option<&BackupId>,
    point: Option<OpTime>,
) -> Vec<String> {
    let mut args = RestoreArgs { continues: true, dry_run: false, ..args.clone() };
    args.which = backup.cloned().map(WhichBackup::Id);
    if let Some(point) = point.filter(|_| args.at.as_deref() == Some("newest")) {
        args.at = Some(format!("{}:{}", point.t, point.i));
    }
    // What --exact drops beside the backup's namespaces is dropped last, and only by a whole restore.
    (args.drop, args.exact) = (args.drop || args.exact, false);
    // The command may be run in another directory.
    for path in [&mut args.from, &mut args.backups.dir, &mut args.identity] {
        *path = absolute(path);
    }
    // The log and the form of the output have no influence on the restore.
    let common = Common { config: absolute(&common.config), ..Common::default() };
    parts(&args, &common).into_iter().flatten().skip(1).collect()
}

/// The path from the root. A path that cannot be resolved stays as it is.
fn absolute(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
}

/// A new argument does not compile until it is here.
fn parts(args: &RestoreArgs, common: &Common) -> Vec<Part> {
    let RestoreArgs {
        which,
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
        swap,
        filter,
        merge,
        undo,
        discard,
        kept,
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
        continues,
        dry_run,
    } = args;
    let Common { config, json, quiet, log_file, verbose } = common;
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let id = |id: &Option<BackupId>| id.as_ref().map(ToString::to_string);
    let mut parts: Vec<Part> = vec![vec!["restore".into()]];
    parts.extend(which.as_ref().map(|which| vec![which_text(which)]));
    let mut value = |flag: &str, value: Option<String>| parts.extend(value.map(|value| valued(flag, value)));
    value("--from", path(from));
    value("--job", job.clone());
    value("--dir", path(dir));
    value("--place", place.clone());
    value("--identity", path(identity));
    value("--allow-unsigned", id(allow_unsigned));
    value("--to-uri", to_uri.clone());
    value("--at", at.clone());
    value("--before", before.clone());
    ns_include.iter().for_each(|pattern| value("--ns-include", Some(pattern.clone())));
    ns_exclude.iter().for_each(|pattern| value("--ns-exclude", Some(pattern.clone())));
    ns_from.iter().for_each(|pattern| value("--ns-from", Some(pattern.clone())));
    ns_to.iter().for_each(|pattern| value("--ns-to", Some(pattern.clone())));
    value("--filter", filter.clone());
    no_index.iter().for_each(|pattern| value("--no-index", Some(pattern.clone())));
    value("--undo", id(undo));
    value("--discard", id(discard));
    value("--config", path(config));
    value("--log-file", path(log_file));
    let flags = [
        ("--kept", kept),
        ("--drop", drop),
        ("--swap", swap),
        ("--merge", merge),
        ("--exact", exact),
        ("--no-indexes", no_indexes),
        ("--convert-legacy-indexes", convert_legacy_indexes),
        ("--no-replay", no_replay),
        ("--users", users),
        ("--no-users", no_users),
        ("--yes", yes),
        ("--continue", continues),
        ("--dry-run", dry_run),
        ("--json", json),
        ("--quiet", quiet),
    ];
    parts.extend(flags.iter().filter(|(_, set)| **set).map(|(flag, _)| vec![flag.to_string()]));
    parts.extend((0..*verbose).map(|_| vec!["--verbose".to_string()]));
    parts
}

fn which_text(which: &WhichBackup) -> String {
    match which {
        WhichBackup::Latest => "latest".into(),
        WhichBackup::Id(id) => id.to_string(),
        WhichBackup::Prefix(beginning) => beginning.clone(),
        WhichBackup::By(time) => time.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }
}

fn valued(flag: &str, value: String) -> Part {
    // A value that begins with a dash would be taken for a flag.
    match value.starts_with('-') {
        true => vec![format!("{flag}={value}")],
        false => vec![flag.into(), value],
    }
}

/// The text as one word of a shell. Characters that control a terminal are written as bytes, in the form of bash, zsh and
/// POSIX.1-2024.
fn quoted(text: &str) -> String {
    if text.is_empty() {
        return "''".into();
    }
    if !text.contains(escape::steers) {
        return escape::quoted(text);
    }
    let mut word = String::from("$'");
    for c in text.chars() {
        match c {
            '\\' | '\'' => word.extend(['\\', c]),
            c if escape::steers(c) => {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| word.push_str(&format!("\\x{byte:02x}")));
            }
            c => word.push(c),
        }
    }
    word + "'"
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::process::Command as Process;

    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn parsed(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Cli {
        Cli::parse_from(words)
    }

    /// The words that bash gives to a program.
    fn through_bash(line: &str) -> Vec<String> {
        let script = format!("uzima-backup() {{ printf '%s\\0' uzima-backup \"$@\"; }}; {line}");
        let said = Process::new("bash").args(["-c", &script]).output().expect("bash");
        assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
        let text = String::from_utf8(said.stdout).expect("UTF-8");
        text.split_terminator('\0').map(str::to_string).collect()
    }

    /// Returns the arguments that the printed command line has after bash and clap read it.
    fn again(cli: &Cli, width: usize) -> (String, Cli) {
        let Command::Restore(args) = &cli.command else { panic!("{cli:?}") };
        let line = command_line(args, &cli.common, width);
        let again = parsed(through_bash(&line));
        (line, again)
    }

    fn restore(cli: &Cli) -> &RestoreArgs {
        match &cli.command {
            Command::Restore(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_flag_of_the_command_line_comes_back_from_the_shell() {
        let id = "20261124T030000Z-7k3q9d";
        let lines: [&[&str]; 11] = [
            &[
                id,
                "--ns-include",
                "shop.*",
                "--ns-exclude",
                "shop.tmp*",
                "--ns-from",
                "shop.*",
                "--ns-to",
                "rescue.*",
            ],
            &[
                id,
                "--drop",
                "--exact",
                "--users",
                "--no-indexes",
                "--convert-legacy-indexes",
                "--no-index",
                "a.b.c",
                "--yes",
            ],
            &[id, "--swap", "--no-users", "--no-replay", "--dry-run", "--json", "--place", "off site"],
            &[
                "--at",
                "newest",
                "--job",
                "ni'ght\"ly $x `y`",
                "--to-uri",
                "mongodb://h/?a=b&c=d",
                "--dir",
                "/b ü",
                "--verbose",
                "-v",
            ],
            &[
                "--before",
                "1795531371:3",
                "--identity",
                "/k",
                "--merge",
                "--filter",
                "{\"a\": {\"$gte\": 'x'}}",
            ],
            &["--from", "/a dump", "--quiet", "--config", "/c", "--log-file", "/l"],
            &["--kept"],
            &["--undo", id],
            &["--discard", id],
            &["--allow-unsigned", id],
            &[id, "--continue"],
        ];
        let flags = crate::cli::command();
        let flags = flags.find_subcommand("restore").expect("a command").get_arguments();
        let mut missing: Vec<&str> =
            flags.filter_map(|arg| arg.get_long()).filter(|long| *long != "help").collect();
        missing.retain(|long| {
            !lines.iter().flat_map(|line| line.iter()).any(|word| word.strip_prefix("--") == Some(long))
        });
        assert!(missing.is_empty(), "flags without a line here: {missing:?}");
        for line in lines {
            let cli = parsed(["uzima-backup", "restore"].iter().chain(line).copied());
            for width in [20, 76, 1000] {
                let (text, again) = again(&cli, width);
                assert_eq!(restore(&again), restore(&cli), "{text}");
                assert_eq!(format!("{:?}", again.common), format!("{:?}", cli.common), "{text}");
            }
        }
    }

    #[test]
    fn hostile_names_are_one_word_without_control_characters() {
        for name in
            ["-x.y", "a.\u{1b}]0;t\u{7}'\\n", "a.b\nc; rm -rf x", "a.\u{202e}\u{9b}é 注", "a.$(b)`c`\\*"]
        {
            let cli = parsed(["uzima-backup", "restore", "latest", &format!("--ns-include={name}")]);
            let (text, again) = again(&cli, 76);
            assert_eq!(restore(&again).ns_include, [name], "{text}");
            let is_shown = |c: char| !escape::steers(c) || c == '\n';
            assert!(text.chars().all(is_shown) && !text.replace(" \\\n", "").contains('\n'), "{text:?}");
        }
    }

    #[test]
    fn a_long_command_line_is_broken_between_its_flags() {
        let mut args = RestoreArgs { which: Some(WhichBackup::Latest), ..RestoreArgs::default() };
        args.ns_include = (0..4).map(|n| format!("shop.orders_of_year_{n}")).collect();
        let cli = parsed(["uzima-backup", "restore", "latest"]);
        insta::assert_snapshot!(command_line(&args, &cli.common, 76), @r"
        uzima-backup restore latest --ns-include shop.orders_of_year_0 \
            --ns-include shop.orders_of_year_1 --ns-include shop.orders_of_year_2 \
            --ns-include shop.orders_of_year_3
        ");
    }

    fn goes_on(line: &str) -> String {
        let cli = parsed(line.split(' '));
        let id = "20261123T030000Z-7k3q9d".parse().unwrap();
        let words =
            that_goes_on(restore(&cli), &cli.common, Some(&id), Some(OpTime { t: 7, i: 1 })).join(" ");
        // It is a command, and the same one again after another interruption.
        let again = parsed(format!("uzima-backup restore {words}").split(' '));
        let twice = that_goes_on(restore(&again), &again.common, Some(&id), Some(OpTime { t: 8, i: 1 }));
        assert_eq!(words, twice.join(" "));
        words
    }

    #[test]
    fn the_command_that_goes_on_names_the_backup_and_the_point() {
        let id = "20261123T030000Z-7k3q9d";
        assert_eq!(goes_on("uzima-backup restore latest --yes --json -v"), format!("{id} --yes --continue"));
        assert_eq!(
            goes_on("uzima-backup restore --at newest --job x --exact"),
            format!("{id} --job x --at 7:1 --drop --continue")
        );
        // Relative paths become absolute, because the command may be run in another directory.
        let here = std::env::current_dir().unwrap();
        let here = here.display();
        assert_eq!(
            goes_on("uzima-backup restore latest --dir d --identity ./i --config f"),
            format!("{id} --dir {here}/d --identity {here}/i --config {here}/f --continue")
        );
        let dump = parsed(["uzima-backup", "restore", "--from", "a/b"]);
        let words = that_goes_on(restore(&dump), &dump.common, None, None);
        assert_eq!(words, ["--from", &format!("{here}/a/b"), "--continue"]);
        let all = "--dir /d --identity /i --before 9:1 --ns-include a.b --ns-exclude=-c --ns-from a.* --ns-to b.* --no-index a.b.c \
                   --config /f --drop --no-indexes --convert-legacy-indexes --users --yes --continue";
        assert_eq!(goes_on(&format!("uzima-backup restore latest {all}")), format!("{id} {all}"));
    }
}
