//! The options of a restore.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::filter::{ReplayFilter, RestoreFilter};
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::catalog::choose::SkippedBackup;
use crate::dumpformat::query::Query;
use crate::model::id::BackupId;
use crate::model::optime::OpTime;

/// Says whether users and roles are restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Users {
    /// Restored if the backup has them and no filter is given.
    #[default]
    Unfiltered,
    Always,
    Never,
}

/// A filter for documents, with its text as the user gave it.
#[derive(Debug, Clone)]
pub struct DocumentFilter {
    pub text: String,
    pub query: Query,
}

impl DocumentFilter {
    /// Parses a filter in Extended JSON.
    ///
    /// # Errors
    /// Returns a usage error if the filter is not supported.
    pub fn parse(text: &str) -> Result<DocumentFilter> {
        Ok(DocumentFilter { text: text.into(), query: Query::parse(text)? })
    }
}

#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    pub filter: RestoreFilter,
    /// Replace existing namespaces that have a name of the backup.
    pub drop: bool,
    /// Also drop users, and namespaces in the backup's databases, that the backup does not have. Includes `drop`.
    pub exact: bool,
    pub no_indexes: bool,
    /// Convert indexes that servers since 3.4 refuse.
    pub convert_legacy_indexes: bool,
    pub users: Users,
    pub no_replay: bool,
    /// Restore only documents that match this filter.
    pub documents: Option<DocumentFilter>,
    /// Insert only documents whose `_id` is missing at the target, and leave everything that is there as it is.
    pub merge: bool,
    /// The restore's own id and its clock, for the mark of staging collections. Needed with `documents` and with `merge`.
    pub own: Option<(String, Clock)>,
    /// The restore's own id if it fills staging collections, which have other names.
    pub staged: Option<String>,
    /// The required instant of the restored data.
    pub at: Option<At>,
    /// True if the target is the server that is backed up, because no other target is configured.
    pub onto_source: bool,
    /// Newer backups of the job that were not chosen because they have a fault.
    pub skipped: Vec<SkippedBackup>,
    /// The restore's own id if it fills new collections beside the live ones, to move them in later.
    pub swap: Option<String>,
    /// A line for each namespace that is not restored because it cannot be swapped.
    pub left_by_swap: Vec<String>,
    /// How the restore is marked at the target, so that it can be continued; `None` for no mark.
    pub mark: Option<MarkOptions>,
    /// Go on with the interrupted restore that is the same as this one.
    pub continues: bool,
    /// A few random letters and digits for the names of trials at the target.
    pub token: String,
    /// The number of large segments that are read at once.
    pub workers: usize,
}

/// What the mark of a restore says, apart from its plan.
#[derive(Debug, Clone)]
pub struct MarkOptions {
    /// The restore's own id.
    pub id: BackupId,
    pub clock: Clock,
    /// The flags and values of the command that goes on, one word each.
    pub command: Vec<String>,
}

impl RestoreOptions {
    /// Returns true if documents are chosen one by one, by a filter or because they are missing at the target.
    pub(super) fn sifts(&self) -> bool {
        self.documents.is_some() || self.merge
    }

    pub(super) fn wants_users(&self) -> bool {
        match self.users {
            _ if self.sifts() => false,
            Users::Unfiltered => self.filter.is_empty(),
            Users::Always => true,
            Users::Never => false,
        }
    }

    /// The filter for the namespaces of an oplog slice.
    pub(super) fn names(&self) -> ReplayFilter {
        ReplayFilter { filter: self.filter.clone(), users: self.wants_users(), staged: self.staged.clone() }
    }
}

/// An instant for `--at`. A backup has at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Second(DateTime<Utc>),
    Entry(OpTime),
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<At, String> {
        let number = |text: &str| text.trim().parse::<u32>().ok();
        // The form in the log of a backup.
        if let Some((second, entry)) = text.split_once(", ")
            && let (Ok(second), Some(i)) = (DateTime::parse_from_rfc3339(second), number(entry))
            && let Ok(t) = u32::try_from(second.timestamp())
        {
            return Ok(At::Entry(OpTime { t, i }));
        }
        // The form of mongorestore's --oplogLimit.
        if let Some((t, i)) = text.split_once(':')
            && let (Some(t), Some(i)) = (number(t), number(i))
        {
            return Ok(At::Entry(OpTime { t, i }));
        }
        let second = DateTime::parse_from_rfc3339(text).map(|second| At::Second(second.to_utc()));
        second.map_err(|e| {
            format!("'{text}' is neither a time like 2026-11-24T03:00:12Z nor seconds:ordinal ({e})")
        })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Second(second) => write!(f, "{}", second.format("%Y-%m-%dT%H:%M:%SZ")),
            At::Entry(at) => write!(f, "{}:{}", at.t, at.i),
        }
    }
}

impl At {
    /// Compares with the instant of the restored data. Returns a usage error if the data has another instant,
    /// or none.
    pub(crate) fn check(self, instant: Option<OpTime>) -> Result<()> {
        let is = |instant: OpTime| match self {
            At::Second(second) => second.timestamp() == i64::from(instant.t),
            At::Entry(at) => at == instant,
        };
        match instant {
            Some(instant) if is(instant) => Ok(()),
            Some(instant) => Err(Error::usage(format!(
                "the backup cannot be restored as of {self}: it is consistent at {} ({}) and at no other time",
                instant.second(),
                At::Entry(instant)
            ))
            .hint("Leave --at out, or name that time. Before the end of the oplog slice, the collections are of different moments; later changes are not in the backup")),
            None => Err(Error::usage(format!(
                "the backup cannot be restored as of {self}: its collections were read at different times"
            ))
            .hint("Leave --at out; `uzima-backup list` shows which backups are of one instant")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_instant_is_accepted() {
        let end = OpTime { t: 1_795_489_212, i: 5 };
        for right in
            ["2026-11-24T03:00:12Z", "2026-11-24T04:00:12+01:00", "1795489212:5", "2026-11-24T03:00:12Z, 5"]
        {
            let at: At = right.parse().unwrap();
            assert!(at.check(Some(end)).is_ok(), "{right}");
            assert_eq!(at.check(None).unwrap_err().exit(), crate::base::exit::Exit::Usage);
        }
        for wrong in ["2026-11-24T03:00:11Z", "2026-11-24T03:00:13Z", "1795489212:4", "1795489212:6"] {
            let error = wrong.parse::<At>().unwrap().check(Some(end)).unwrap_err();
            assert!(
                error.to_string().contains("at 2026-11-24T03:00:12Z (1795489212:5) and"),
                "{wrong}: {error}"
            );
        }
        for nothing in ["", "yesterday", "12", "1:x", "2026-11-24", "-1:2"] {
            assert!(nothing.parse::<At>().is_err(), "{nothing}");
        }
    }
}
