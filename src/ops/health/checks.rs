//! The list of checks. A new one is a function and an entry here.

use futures_util::future::LocalBoxFuture;

use super::around::Around;
use super::{CheckOutcome, history, machine, mongo, place, telling};
use crate::base::error::Result;

/// The check on which all others rest.
pub const CONFIGURATION: &str = "configuration";

/// A check.
pub struct Check {
    /// Its name, in the words of `--skip`.
    pub name: &'static str,
    /// The checks on which it rests: if one of them failed, it is skipped.
    pub after: &'static [&'static str],
    /// Finds out; an error is a failed check, with the error's next step.
    pub run: for<'a> fn(&'a Around) -> LocalBoxFuture<'a, Result<Finding>>,
    /// The next step where the error knows none.
    pub otherwise: &'static str,
}

/// What a check found where nothing failed.
#[derive(Debug)]
pub struct Finding {
    /// How it ended.
    pub outcome: CheckOutcome,
    /// What was found, in one line.
    pub detail: String,
    /// What to do about it; always there with a warning.
    pub next_step: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(detail: impl Into<String>) -> Result<Finding> {
        Ok(Finding { outcome: CheckOutcome::Ok, detail: detail.into(), next_step: None })
    }

    /// A backup will work, but a person should look.
    pub fn warning(detail: impl Into<String>, next_step: impl Into<String>) -> Result<Finding> {
        let (outcome, next_step) = (CheckOutcome::Warning, Some(next_step.into()));
        Ok(Finding { outcome, detail: detail.into(), next_step })
    }

    /// There is nothing of this kind to look at.
    pub fn skipped(why: impl Into<String>) -> Result<Finding> {
        Ok(Finding { outcome: CheckOutcome::Skipped, detail: why.into(), next_step: None })
    }

    /// The settings ask for nothing of this kind.
    pub fn not_configured(why: impl Into<String>) -> Result<Finding> {
        Ok(Finding { outcome: CheckOutcome::NotConfigured, detail: why.into(), next_step: None })
    }
}

/// All checks, in the order in which they are told. One comes after those on which it rests.
pub const CHECKS: &[Check] = &[
    Check {
        name: CONFIGURATION,
        after: &[],
        run: |around| Box::pin(machine::configuration(around)),
        otherwise: "Run `uzima-backup config`: it shows every setting and where it came from",
    },
    Check {
        name: "mongodb",
        after: &[CONFIGURATION],
        run: |around| Box::pin(mongo::mongodb(around)),
        otherwise: "Check that MONGO_URI names the right server, and look into the server's log",
    },
    Check {
        name: "namespaces",
        after: &["mongodb"],
        run: |around| Box::pin(mongo::namespaces(around)),
        otherwise: "Run `uzima-backup backup --dry-run`, and look into the server's log",
    },
    Check {
        name: "engine",
        after: &[CONFIGURATION],
        run: |around| Box::pin(mongo::engine(around)),
        otherwise: "Install mongodb-database-tools, or use BACKUP_ENGINE=native",
    },
    Check {
        name: "store",
        after: &[CONFIGURATION],
        run: |around| Box::pin(place::store(around)),
        otherwise: "Check that the store can be reached from here, and its settings (`uzima-backup config`)",
    },
    Check {
        name: "disk",
        after: &["store"],
        run: |around| Box::pin(place::disk(around)),
        otherwise: "Check the disk of BACKUP_DIR (`df`, `dmesg`)",
    },
    Check {
        name: "clock",
        after: &["store"],
        run: |around| Box::pin(place::clock(around)),
        otherwise: "Compare this machine's clock with another one (`timedatectl`)",
    },
    Check {
        name: "freshness",
        after: &["store"],
        run: |around| Box::pin(history::freshness(around)),
        otherwise: "Run `uzima-backup list`",
    },
    Check {
        name: "backups",
        after: &["store"],
        run: |around| Box::pin(history::backups(around)),
        otherwise: "Run `uzima-backup list`, which names them",
    },
    Check {
        name: "drill",
        after: &["store"],
        run: |around| Box::pin(history::drill(around)),
        otherwise: "Run `uzima-backup verify latest --drill`",
    },
    Check {
        name: "records",
        after: &["mongodb"],
        run: |around| Box::pin(telling::records(around)),
        otherwise: "Give the user the role readWrite on uzima_backup, or set BACKUP_RECORDS=off",
    },
    Check {
        name: "mail",
        after: &[CONFIGURATION],
        run: |around| Box::pin(telling::mail(around)),
        otherwise: "Check RESEND_API_KEY and EMAIL_FROM, then run `uzima-backup notify --test`",
    },
    Check {
        name: "state",
        after: &[CONFIGURATION],
        run: |around| Box::pin(machine::state(around)),
        otherwise: "Set state_dir (UZIMA_BACKUP_STATE_DIR) to a directory that this user may write",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_its_names_are_words() {
        for (n, check) in CHECKS.iter().enumerate() {
            let before: Vec<&str> = CHECKS[..n].iter().map(|check| check.name).collect();
            assert!(check.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", check.name);
            assert!(check.after.iter().all(|name| before.contains(name)), "{}", check.name);
            assert!(!before.contains(&check.name) && !check.otherwise.is_empty(), "{}", check.name);
            assert_eq!(check.after.is_empty(), check.name == CONFIGURATION, "{}", check.name);
        }
    }
}
