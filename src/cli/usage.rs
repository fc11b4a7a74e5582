//! Mistakes in the command line, told as every other error of this tool: what is wrong, and the next step.

use clap::error::{ContextKind, ErrorKind};

use crate::error::Error;

/// The error of a command line that clap refused.
pub fn explain(error: &clap::Error) -> Error {
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
    let command = said(ContextKind::Usage);
    Error::usage(message).hint(format!("`{} --help` says what there is", name(&command)))
}

/// What clap says without its word for it, the usage, and the advice to read the help.
fn first(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let end = ["\n\nUsage:", "\n\nFor more"].iter().filter_map(|end| text.find(end)).min();
    let lines = text[..end.unwrap_or(text.len())].lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" · ").replace(": · ", ": ").replace("tip: ", "")
}

/// The command, from its usage; where clap tells none, the tool.
fn name(usage: &str) -> String {
    let words = usage.strip_prefix("Usage: ").unwrap_or(usage).split_whitespace();
    let command: Vec<&str> = words.take(2).filter(|word| !word.starts_with(['[', '<', '-'])).collect();
    if command.is_empty() { "uzima-backup".into() } else { command.join(" ") }
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
    use crate::cli::args::Cli;

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
            (&["pin"], "the following required arguments were not provided: <ID>"),
            (&["health", "--only", "x"], "invalid value 'x' for '--only <CHECK>'"),
        ] {
            let error = explain(&Cli::try_parse_from(["uzima-backup"].iter().chain(args)).unwrap_err());
            let text = error.to_string();
            assert!(
                text.starts_with(words) && !text.contains("Usage") && !text.contains('\n'),
                "{args:?}: {text}"
            );
            assert_eq!(error.exit(), crate::exit::Exit::Usage);
            assert!(error.next_step().unwrap().starts_with("`uzima-backup"), "{:?}", error.next_step());
        }
    }
}
