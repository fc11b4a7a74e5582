//! The flags that restore exactly what a restore left out.

use super::filter::Filter;
use super::rename::Rename;
use super::{Options, Users};
use crate::base::escape::quoted;
use crate::base::suggest::escaped;

/// The most namespaces for which a message has flags.
const FLAGS: usize = 50;

/// What a restore left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remainder {
    /// The names in the backup of the namespaces that are missing or not complete.
    pub missing: Vec<String>,
    /// The names in the backup of the namespaces that are complete.
    pub done: Vec<String>,
    /// Users and roles are missing.
    pub users: bool,
    /// A namespace is missing that only the oplog slice has; there is no flag for it.
    pub slice: bool,
}

/// A sentence with the flags that restore the remainder; `None` if there is none.
pub fn advice(options: &Options, remainder: &Remainder) -> Option<String> {
    let Remainder { missing, done, users, slice } = remainder;
    if missing.is_empty() && !users && !slice {
        return None;
    }
    let whole = *slice || done.is_empty() && (*users || !options.wants_people());
    // Too many names for a command line: all of it is restored once more.
    if whole || missing.len().min(done.len()) > FLAGS {
        return Some("Then the same command with --drop restores what is missing".into());
    }
    let mut flags = Vec::new();
    let mut add = |flag: &str, text: &str| flags.push(format!("{flag} {}", quoted(text)));
    let mut without = Vec::new();
    // If names are only excluded, the command keeps its own patterns.
    let excludes = missing.is_empty() || missing.len() > FLAGS;
    if missing.is_empty() && !done.is_empty() {
        add("--ns-exclude", "*");
    } else if excludes {
        done.iter().for_each(|name| add("--ns-exclude", &escaped(name)));
    } else {
        missing.iter().for_each(|name| add("--ns-include", &escaped(name)));
        let Filter { include, exclude, .. } = &options.filter;
        without.extend((!include.is_empty()).then_some("--ns-include"));
        without.extend((!exclude.is_empty()).then_some("--ns-exclude"));
    }
    // A pattern that matches no namespace would be refused.
    let fits = |rename: &&Rename| missing.iter().any(|name| rename.apply(name).is_some());
    let renames: Vec<&Rename> = options.filter.rename.iter().filter(fits).collect();
    if renames.len() < options.filter.rename.len() {
        without.extend(["--ns-from", "--ns-to"]);
        renames.iter().for_each(|rename| {
            add("--ns-from", &rename.from_text);
            add("--ns-to", &rename.to_text);
        });
    }
    if !missing.is_empty() {
        flags.push("--drop".into());
    }
    match (users, options.users) {
        (true, Users::Always) | (false, Users::Never | Users::Unfiltered) => {}
        (true, _) => flags.push("--users".into()),
        (false, Users::Always) => without.push("--users"),
    }
    without.extend(options.exact.then_some("--exact"));
    let without = match without.is_empty() {
        true => String::new(),
        false => format!(", without its own {},", without.join(", ")),
    };
    Some(format!("Then the same command{without} with {} restores what is missing", flags.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::restore::pairs;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn told(options: &Options, missing: &[&str], done: &[&str], users: bool) -> String {
        let remainder = Remainder { missing: names(missing), done: names(done), users, slice: false };
        advice(options, &remainder).unwrap_or_default()
    }

    #[test]
    fn the_flags_name_what_is_missing_and_nothing_else() {
        let plain = Options::default();
        assert_eq!(told(&plain, &[], &["a.b"], false), "");
        assert_eq!(
            told(&plain, &["a.b*c", "a.it's"], &["a.d"], false),
            "Then the same command with --ns-include 'a.b\\*c' --ns-include 'a.it'\\''s' --drop restores what is \
             missing"
        );
        let flags = |options: &Options, missing: &[&str], users| {
            let text = told(options, missing, &["a.d"], users);
            let (_, rest) = text.split_once("the same command").unwrap();
            rest.strip_suffix(" restores what is missing").unwrap().to_string()
        };
        assert_eq!(flags(&plain, &["a.b"], true), " with --ns-include a.b --drop --users");
        assert_eq!(flags(&plain, &[], true), " with --ns-exclude '*' --users");
        let renamed = Options {
            filter: Filter {
                include: vec!["a.*".parse().unwrap()],
                rename: pairs(&names(&["a.b", "a.d"]), &names(&["c.b", "c.d"])).unwrap(),
                ..Filter::default()
            },
            exact: true,
            users: Users::Always,
            ..Options::default()
        };
        assert_eq!(
            flags(&renamed, &["a.b"], false),
            ", without its own --ns-include, --ns-from, --ns-to, --users, --exact, with --ns-include a.b \
             --ns-from a.b --ns-to c.b --drop"
        );
        let many: Vec<String> = (0..60).map(|n| format!("a.c{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(flags(&plain, &many, false), " with --ns-exclude a.d --drop");
        assert_eq!(told(&plain, &many, &many, false), told(&plain, &["a.b"], &[], true));
        assert!(told(&plain, &["a.b"], &[], true).contains("command with --drop restores"));
    }
}
