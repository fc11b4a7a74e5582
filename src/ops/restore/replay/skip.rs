//! Namespaces that a replay leaves out. Their documents are not as the backup read them, so an operation of the slice
//! would lead to a state that the source never had.

use std::collections::BTreeSet;

use super::action::Action;
use super::names::Named;
use crate::base::error::Error;

/// The namespaces.
#[derive(Debug, Default)]
pub struct Skip {
    /// `database.collection` at the target.
    names: BTreeSet<String>,
    people: bool,
    failures: Vec<Failure>,
}

/// Why the replay of a namespace ended early.
#[derive(Debug, Clone)]
pub struct Failure {
    /// `database.collection` at the target.
    pub name: String,
    /// The cause, in words.
    pub why: String,
    /// How to remove the cause, if known.
    pub next_step: Option<String>,
}

impl Skip {
    /// Leaves out a namespace of the target that was not restored.
    pub fn add(&mut self, name: &str) {
        self.names.insert(name.into());
    }

    /// Leaves out users and roles.
    pub fn people(&mut self) {
        self.people = true;
    }

    /// Leaves out all further operations on a namespace after one of them failed.
    pub fn fail(&mut self, name: String, error: &Error) {
        log::warn!("{name}: {}", error.chain());
        if self.names.insert(name.clone()) {
            let next_step = error.next_step().map(str::to_string);
            self.failures.push(Failure { name, why: error.chain(), next_step });
        }
    }

    /// Returns true if a namespace of the target is left out.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Returns true if an operation on this namespace is left out.
    pub fn leaves_out(&self, named: &Named) -> bool {
        self.people && named.is_people() || self.has(&name(named))
    }

    /// Returns true if an action is left out. A rename of a namespace that is left out fails the other one too.
    pub fn takes(&mut self, action: &Action) -> bool {
        match action {
            Action::Write { to, .. }
            | Action::Create { to, .. }
            | Action::Modify { to, .. }
            | Action::Index { to, .. }
            | Action::Drop(to) => self.leaves_out(to),
            Action::DropAll { .. } => false,
            Action::Rename { from, to, .. } => {
                let left_out = self.leaves_out(from) || self.leaves_out(to);
                if left_out {
                    let why = format!("the oplog renames {} to {}", name(from), name(to));
                    for named in [from, to] {
                        let what = format!("{why}, and one of them was not restored");
                        self.fail(name(named), &Error::failed(what));
                    }
                }
                left_out
            }
        }
    }

    /// The namespaces that failed in the replay.
    pub fn failures(&self) -> Vec<Failure> {
        self.failures.clone()
    }
}

/// `database.collection` at the target.
pub fn name(named: &Named) -> String {
    format!("{}.{}", named.db, named.collection)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn named(collection: &str) -> Named {
        let (db, collection) = ("shop".to_string(), collection.to_string());
        Named { from_db: db.clone(), from: collection.clone(), db, collection, buckets: false }
    }

    #[test]
    fn a_rename_fails_both_names_if_one_was_not_restored() {
        let rename =
            |from: &str, to: &str| Action::Rename { from: named(from), to: named(to), command: rawdoc! {} };
        let mut skip = Skip::default();
        assert!(!skip.takes(&rename("a", "b")));
        skip.add("shop.a");
        assert!(skip.takes(&rename("a", "b")) && skip.takes(&rename("c", "b")));
        let failed: Vec<String> = skip.failures().into_iter().map(|failure| failure.name).collect();
        assert_eq!(failed, ["shop.b", "shop.c"], "shop.a has an error of its own");
        assert!(skip.takes(&Action::Drop(named("b"))) && !skip.takes(&Action::Drop(named("d"))));
    }
}
