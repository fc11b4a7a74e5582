//! The list of checks, and how they run: at the same time unless one needs another, each limited in time.

use super::context::{Context, Finding};
use super::{CheckOutcome, CheckRow, HealthOptions, history, machine, place, server};
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::units::one_line;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The check that all others depend on.
pub const CONFIGURATION: &str = "configuration";

/// A check.
pub struct Check {
    /// The name, as `--skip` takes it.
    pub name: &'static str,
    /// The checks that it depends on. If one of them failed, it is skipped.
    pub after: &'static [&'static str],
    /// Runs the check. An error is a failed check.
    pub run: for<'a> fn(&'a Context) -> LocalBoxFuture<'a, Result<Finding>>,
    /// The next step of a failure whose error has none.
    pub otherwise: &'static str,
}

/// All checks, in the order of the report. A check comes after the checks that it depends on.
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
        run: |around| Box::pin(server::mongodb(around)),
        otherwise: "Check that MONGO_URI names the right server, and look into the server's log",
    },
    Check {
        name: "namespaces",
        after: &["mongodb"],
        run: |around| Box::pin(server::namespaces(around)),
        otherwise: "Run `uzima-backup backup --dry-run`, and look into the server's log",
    },
    Check {
        name: "engine",
        after: &[CONFIGURATION],
        run: |around| Box::pin(server::engine(around)),
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
        run: |around| Box::pin(server::records(around)),
        otherwise: "Give the user the role readWrite on uzima_backup, or set BACKUP_RECORDS=off",
    },
    Check {
        name: "mail",
        after: &[CONFIGURATION],
        run: |around| Box::pin(server::mail(around)),
        otherwise: "Check RESEND_API_KEY and EMAIL_FROM, then run `uzima-backup notify --test`",
    },
    Check {
        name: "state",
        after: &[CONFIGURATION],
        run: |around| Box::pin(machine::state(around)),
        otherwise: "Set state_dir (UZIMA_BACKUP_STATE_DIR) to a directory that this user may write",
    },
];

/// Returns true if the report has a row for the check.
pub fn wanted(check: &Check, options: &HealthOptions) -> bool {
    options.only.is_empty() || options.only.iter().any(|name| name == check.name)
}

/// Returns true if the check is run.
pub fn asked(check: &Check, options: &HealthOptions) -> bool {
    wanted(check, options) && !options.skip.iter().any(|name| name == check.name)
}

/// Runs the selected checks. The rows have the order of `checks`.
pub async fn run(checks: &[Check], around: &Context, options: &HealthOptions) -> Vec<CheckRow> {
    let mut done: BTreeMap<&str, CheckRow> = BTreeMap::new();
    let mut waiting = Vec::new();
    for check in checks.iter().filter(|check| wanted(check, options)) {
        if asked(check, options) {
            waiting.push(check);
        } else {
            done.insert(check.name, skipped(check, "by --skip".into()));
        }
    }
    let asked: Vec<&str> = waiting.iter().map(|check| check.name).collect();
    // A check that is not run delays no other. A check that depends on it finds the failure itself.
    let settled =
        |done: &BTreeMap<&str, CheckRow>, name: &str| done.contains_key(name) || !asked.contains(&name);
    let mut failures: BTreeMap<&str, &str> = BTreeMap::new();
    let mut running = FuturesUnordered::new();
    loop {
        let mut later = Vec::new();
        for check in waiting {
            if let Some(cause) = check.after.iter().find_map(|name| failures.get(name).copied()) {
                failures.insert(check.name, cause);
                done.insert(check.name, skipped(check, format!("because {cause} failed")));
            } else if check.after.iter().all(|name| settled(&done, name)) {
                running.push(one(check, around));
            } else {
                later.push(check);
            }
        }
        waiting = later;
        let Some(row) = running.next().await else { break };
        if row.outcome == CheckOutcome::Failed {
            failures.insert(row.name, row.name);
        }
        done.insert(row.name, row);
    }
    checks.iter().filter_map(|check| done.remove(check.name)).collect()
}

async fn one(check: &Check, around: &Context) -> CheckRow {
    let begun = Instant::now();
    let limit = around.limit(check.name);
    let outcome = tokio::time::timeout(limit, (check.run)(around))
        .await
        .unwrap_or_else(|_| Err(Error::failed(format!("no answer within {} s", limit.as_secs_f32().ceil()))));
    match outcome {
        Ok(finding) => CheckRow {
            name: check.name,
            outcome: finding.outcome,
            detail: one_line(&finding.detail),
            took: begun.elapsed(),
            next_step: finding.next_step.as_deref().map(one_line),
        },
        Err(error) => failed(check, &error, begun.elapsed()),
    }
}

/// The row of a check that failed.
pub fn failed(check: &Check, error: &Error, took: Duration) -> CheckRow {
    CheckRow {
        name: check.name,
        outcome: CheckOutcome::Failed,
        detail: one_line(&error.chain()),
        took,
        next_step: Some(one_line(error.next_step().unwrap_or(check.otherwise))),
    }
}

/// The row of a check that was not run.
pub fn skipped(check: &Check, why: String) -> CheckRow {
    let (outcome, took) = (CheckOutcome::Skipped, Duration::ZERO);
    CheckRow { name: check.name, outcome, detail: why, took, next_step: None }
}

#[cfg(test)]
mod list_tests {
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

#[cfg(test)]
mod tests;
