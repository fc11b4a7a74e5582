//! The flags that restore everything that the target can take, if it cannot take all of the backup.

use std::collections::BTreeSet;

use super::preflight::Unable;
use super::{Options, Users};
use crate::base::escape::quoted;
use crate::base::suggest::escaped;

/// How something is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// These namespaces of the backup are left out.
    Exclude(BTreeSet<String>),
    /// This index is left out: `database.collection.index`, with the names of the backup.
    LeaveIndex(String),
    /// Users and roles are left out.
    NoUsers,
    /// The oplog is not replayed.
    NoReplay,
}

/// Flags to add to a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// The flags and their values, a word each.
    pub add: Vec<String>,
    /// The flags to remove from the command.
    pub without: Vec<&'static str>,
}

/// The inputs of [`flags`].
pub struct Basis<'a> {
    pub options: &'a Options,
    /// The namespaces that would be restored, by their names in the backup.
    pub wanted: &'a BTreeSet<String>,
    /// The backup has users or roles that would be restored.
    pub people: bool,
    /// The renames in the oplog slice, by names in the backup: from and to.
    pub renames: &'a [(String, String)],
}

/// The flags that restore the rest; `None` if there is no rest, or if nothing has to be left out.
pub fn flags(unable: &[Unable], basis: &Basis) -> Option<Flags> {
    let no_replay = unable.iter().any(|one| one.remedy == Remedy::NoReplay);
    let counts = |one: &&Unable| !(no_replay && one.of_slice);
    let unable: Vec<Unable> = unable.iter().filter(counts).cloned().collect();
    let unable = unable.as_slice();
    let mut flags = Flags::default();
    let mut excluded: BTreeSet<&str> = BTreeSet::new();
    let mut no_users = false;
    for one in unable {
        match &one.remedy {
            Remedy::Exclude(names) => excluded.extend(names.iter().map(String::as_str)),
            Remedy::LeaveIndex(_) | Remedy::NoReplay => {}
            Remedy::NoUsers => no_users = true,
        }
    }
    if no_replay {
        // Without the replay, a namespace that only the slice has needs no flag, and its pattern would match nothing.
        excluded.retain(|name| basis.wanted.contains(*name));
    }
    // A rename is only replayed if both names are wanted.
    let renames = if no_replay { &[] } else { basis.renames };
    let mut before = usize::MAX;
    while excluded.len() != before {
        before = excluded.len();
        for (from, to) in renames {
            if excluded.contains(from.as_str()) || excluded.contains(to.as_str()) {
                excluded.extend([from.as_str(), to.as_str()]);
            }
        }
    }
    if unable.is_empty() || basis.wanted.iter().all(|name| excluded.contains(name.as_str())) {
        return None;
    }
    let mut add = |flag: &str, value: &str| flags.add.extend([flag.to_string(), value.to_string()]);
    let whole = whole_databases(unable, basis.wanted);
    let of_whole = |name: &&&str| whole.iter().any(|db| name.starts_with(&format!("{db}.")));
    whole.iter().for_each(|db| add("--ns-exclude", &format!("{}.*", escaped(db))));
    excluded.iter().filter(|name| !of_whole(name)).for_each(|name| add("--ns-exclude", &escaped(name)));
    for one in unable {
        match &one.remedy {
            Remedy::LeaveIndex(name) if !excluded.iter().any(|of| name.starts_with(&format!("{of}."))) => {
                add("--no-index", &escaped(name));
            }
            _ => {}
        }
    }
    if no_replay {
        flags.add.push("--no-replay".into());
        flags.without.extend(basis.options.at.map(|_| "--at"));
    }
    let filters = !excluded.is_empty() && basis.options.filter.is_empty();
    match basis.options.users {
        Users::Always if no_users => {
            flags.add.push("--no-users".into());
            flags.without.push("--users");
        }
        Users::Unfiltered if no_users => flags.add.push("--no-users".into()),
        // With a filter, users are left out unless --users is given.
        Users::Unfiltered if filters && basis.people => flags.add.push("--users".into()),
        _ => {}
    }
    Some(flags)
}

/// The databases of the backup whose wanted namespaces, more than one, are all left out for one reason.
fn whole_databases<'a>(unable: &'a [Unable], wanted: &BTreeSet<String>) -> BTreeSet<&'a str> {
    let mut whole = BTreeSet::new();
    for one in unable {
        let Remedy::Exclude(names) = &one.remedy else { continue };
        let databases: BTreeSet<&str> =
            names.iter().filter_map(|name| Some(name.split_once('.')?.0)).collect();
        for db in databases {
            let start = format!("{db}.");
            let mut of = wanted.iter().filter(|name| name.starts_with(&start)).peekable();
            let several = names.iter().filter(|name| name.starts_with(&start)).count() > 1;
            if several && of.peek().is_some() && of.all(|name| names.contains(name)) {
                whole.insert(db);
            }
        }
    }
    whole
}

impl Flags {
    /// The next step, as a sentence without its full stop.
    pub fn sentence(&self) -> String {
        let words: Vec<String> = self.add.iter().map(|word| quoted(word)).collect();
        let without = match self.without.is_empty() {
            true => String::new(),
            false => format!(", without its own {},", self.without.join(", ")),
        };
        format!("The same command{without} with {} restores the rest", words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unable(remedy: Remedy) -> Unable {
        Unable { what: String::new(), why: String::new(), remedy, of_slice: false }
    }

    fn exclude(name: &str) -> Unable {
        unable(Remedy::Exclude([name.to_string()].into()))
    }

    fn words(
        unable: &[Unable],
        options: &Options,
        wanted: &[&str],
        renames: &[(String, String)],
    ) -> Option<String> {
        let wanted = wanted.iter().map(|name| name.to_string()).collect();
        let basis = Basis { options, wanted: &wanted, people: true, renames };
        flags(unable, &basis).map(|flags| flags.sentence())
    }

    #[test]
    fn the_flags_leave_out_what_the_target_cannot_take() {
        let options = Options::default();
        let wanted = ["a.x", "a.y*", "b.z"];
        for (unable, want) in [
            (vec![exclude("a.y*")], r"with --ns-exclude 'a.y\\*' --users restores"),
            (
                vec![exclude("a.x"), exclude("a.y*")],
                r"with --ns-exclude a.x --ns-exclude 'a.y\\*' --users restores",
            ),
            (
                vec![unable(Remedy::Exclude(["a.x", "a.y*"].map(String::from).into()))],
                "with --ns-exclude 'a.*' --users restores",
            ),
            (vec![exclude("b.z"), unable(Remedy::NoUsers)], "with --ns-exclude b.z --no-users restores"),
            (vec![unable(Remedy::NoReplay)], "with --no-replay restores"),
            (vec![unable(Remedy::LeaveIndex("a.x.i".into()))], "with --no-index a.x.i restores"),
            (
                vec![unable(Remedy::LeaveIndex("a.x.i".into())), exclude("a.x")],
                "with --ns-exclude a.x --users restores",
            ),
        ] {
            let words = words(&unable, &options, &wanted, &[]).unwrap();
            assert!(words.contains(&want.replace("\\\\", "\\")), "{words}");
        }
        assert_eq!(words(&[exclude("a.x")], &options, &["a.x"], &[]), None, "there is no rest");
        // What only the slice asks for needs no flag without a replay.
        let index = Unable { of_slice: true, ..unable(Remedy::LeaveIndex("b.z.i".into())) };
        let change = Unable { of_slice: true, ..exclude("a.x") };
        let told = words(&[index, change, unable(Remedy::NoReplay)], &options, &["a.x", "b.z"], &[]);
        assert_eq!(told.as_deref(), Some("The same command with --no-replay restores the rest"));
        assert_eq!(words(&[], &options, &wanted, &[]), None);
        let renamed = [("b.z".to_string(), "a.x".to_string())];
        let both = words(&[exclude("a.x")], &options, &wanted, &renamed).unwrap();
        assert!(both.contains("--ns-exclude a.x --ns-exclude b.z"), "{both}");
    }

    #[test]
    fn flags_that_contradict_the_command_go() {
        let options = Options { users: Users::Always, at: "1:1".parse().ok(), ..Options::default() };
        let both = [unable(Remedy::NoUsers), unable(Remedy::NoReplay)];
        let words = words(&both, &options, &["a.x"], &[]).unwrap();
        assert!(
            words.contains(", without its own --at, --users, with --no-replay --no-users restores"),
            "{words}"
        );
    }
}
