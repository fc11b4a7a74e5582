//! Mistakes in the command line, told as every other error of this tool: what is wrong, and the next step.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ErrorKind};

use super::args::Cli;
use crate::base::error::Error;

/// The error of a command line `args`, the tool's name first, that clap refused.
pub fn explain(error: &clap::Error, args: &[OsString]) -> Error {
    let said = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::ValueValidation => {
            let flag = said(ContextKind::InvalidArg);
            // `--limit <N>` is what the help says of it.
            let flag = flag.split(" <").next().unwrap_or_default().to_string();
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("{flag} = '{}': {why}", said(ContextKind::InvalidValue))
        }
        _ => first(&error.to_string()),
    };
    let command = subcommand(args).map(|name| format!(" {name}")).unwrap_or_default();
    Error::usage(message).hint(format!("`uzima-backup{command} --help` says what there is"))
}

/// What clap says without its word for it, the usage, and the advice to read the help.
fn first(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let end = ["\n\nUsage:", "\n\nFor more"].iter().filter_map(|end| text.find(end)).min();
    let lines = text[..end.unwrap_or(text.len())].lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" · ").replace(": · ", ": ").replace("tip: ", "")
}

/// The subcommand that was given, as far as there is one. (Clap tells it of some of the mistakes only.)
fn subcommand(args: &[OsString]) -> Option<String> {
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(args).ok()?;
    matches.subcommand_name().map(str::to_string)
}

/// A whole number, at least 1.
pub fn positive(text: &str) -> Result<std::num::NonZeroUsize, String> {
    text.parse().map_err(|_| "it is a whole number, at least 1".into())
}

/// A whole number.
pub fn whole(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| "it is a whole number".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn mistakes_have_one_style() {
        for (args, words) in [
            (&["list", "--limit", "0"][..], "--limit = '0': it is a whole number, at least 1"),
            (&["list", "--limit", "-1"], "--limit = '-1': it is a whole number, at least 1"),
            (
                &["backup", "--wait", "-1m"],
                "--wait = '-1m': it is a whole number and a unit, e.g. 90s, 10m or 2h",
            ),
            (&["backup", "--level", "-x"], "--level = '-x': it is a whole number"),
            (&["verify", "--all", "--sample", "-5"], "--sample = '-5': it is a percentage from 1% to 100%"),
            (&["list", "--frob"], "unexpected argument '--frob' found"),
            (&["pin"], "the following required arguments were not provided: <latest|ID>"),
            (&["health", "--only", "x"], "invalid value 'x' for '--only <CHECK>'"),
        ] {
            let error = refused(args);
            let text = error.to_string();
            assert!(
                text.starts_with(words) && !text.contains("Usage") && !text.contains('\n'),
                "{args:?}: {text}"
            );
            assert_eq!(error.exit(), crate::base::exit::Exit::Usage);
        }
    }

    #[test]
    fn the_next_step_is_the_help_of_the_subcommand() {
        for (args, command) in [
            (&["pin", "newest"][..], " pin"),
            (&["pin"], " pin"),
            (&["list", "--status", "bad"], " list"),
            (&["list", "--frob"], " list"),
            (&["health", "--only", "mail,mongo"], " health"),
            (&["--config", "list", "backup", "--level", "-x"], " backup"),
            (&["backup", "--wait", "-1m"], " backup"),
            (&["verify", "latest", "--sample", "-5"], " verify"),
            (&["bakcup"], ""),
            (&["--frob"], ""),
        ] {
            let want = format!("`uzima-backup{command} --help` says what there is");
            assert_eq!(refused(args).next_step(), Some(want.as_str()), "{args:?}");
        }
    }

    fn refused(args: &[&str]) -> Error {
        let args: Vec<OsString> = ["uzima-backup"].iter().chain(args).map(Into::into).collect();
        explain(&Cli::try_parse_from(&args).unwrap_err(), &args)
    }
}
