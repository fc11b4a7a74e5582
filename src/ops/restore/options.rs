//! How to restore.

use super::filter::Filter;
use super::replay::{Names, at::At};

/// Whether users and roles are restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Users {
    /// If the backup has them and no filter is given.
    #[default]
    Unfiltered,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// How to restore.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is wanted.
    pub filter: Filter,
    /// What is at the target under a name of the backup is replaced.
    pub drop: bool,
    /// So is what the backup does not have: other namespaces of its databases, other users. Includes `drop`.
    pub exact: bool,
    /// Indexes are not built.
    pub no_indexes: bool,
    /// Indexes that servers since 3.4 refuse are converted.
    pub convert_legacy_indexes: bool,
    /// Users and roles.
    pub users: Users,
    /// The oplog slice is not replayed.
    pub no_replay: bool,
    /// The instant that the data is to be of.
    pub at: Option<At>,
    /// The target is the server that is backed up: nobody named another one.
    pub onto_source: bool,
    /// A few random letters and digits, for the names of trials at the target.
    pub token: String,
    /// How many threads read.
    pub workers: usize,
}

impl Options {
    /// Whether users and roles are wanted.
    pub(super) fn wants_people(&self) -> bool {
        match self.users {
            Users::Unfiltered => self.filter.is_empty(),
            Users::Always => true,
            Users::Never => false,
        }
    }

    /// Which namespaces of an oplog slice are wanted.
    pub(super) fn names(&self) -> Names {
        Names { filter: self.filter.clone(), people: self.wants_people() }
    }
}
