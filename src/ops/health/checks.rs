//! The list of checks, and their execution: at the same time unless one depends on another, each with a time limit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;

use super::{
    CheckOutcome, CheckRow, Context, Finding, HealthOptions, apart, environment, history, key, oplog, place,
};
use crate::base::error::{Error, Result};
use crate::base::units::one_line;

/// The check that all others depend on.
pub(super) const CONFIGURATION: &str = "configuration";

/// The check that compares the places. Without copies, it is run only if it is asked for by name.
const COPIES: &str = "copies";

/// The check of the mail about stopped backups. Without that mail, it is run only if it is asked for by name.
const DEAD_MAN: &str = "deadman";

/// The checks that are also run for each copy.
const OF_EACH_PLACE: [&str; 6] = ["store", "disk", "clock", "freshness", "backups", "oplog"];

#[derive(Clone, Copy)]
pub(super) struct Check {
    /// The name that `--only` and `--skip` accept.
    pub name: &'static str,
    /// The checks that it depends on. If one of them failed, it is skipped.
    pub after: &'static [&'static str],
    /// Runs the check. An error is a failed check.
    pub run: for<'a> fn(&'a Context) -> LocalBoxFuture<'a, Result<Finding>>,
    /// The next step of a failure whose error has none.
    pub otherwise: &'static str,
}

/// All checks, in the order of the report. A check comes after the checks that it depends on.
pub(super) const CHECKS: &[Check] = &[
    Check {
        name: CONFIGURATION,
        after: &[],
        run: |context| Box::pin(environment::configuration(context)),
        otherwise: "Run `uzima-backup config`: it shows every setting and where it came from",
    },
    Check {
        name: "mongodb",
        after: &[CONFIGURATION],
        run: |context| Box::pin(environment::mongodb(context)),
        otherwise: "Check that MONGO_URI names the right server, and look into the server's log",
    },
    Check {
        name: "namespaces",
        after: &["mongodb"],
        run: |context| Box::pin(environment::namespaces(context)),
        otherwise: "Run `uzima-backup backup --dry-run`, and look into the server's log",
    },
    Check {
        name: "engine",
        after: &[CONFIGURATION],
        run: |context| Box::pin(environment::engine(context)),
        otherwise: "Install mongodb-database-tools, or use BACKUP_ENGINE=native",
    },
    Check {
        name: "store",
        after: &[CONFIGURATION],
        run: |context| Box::pin(place::store(context)),
        otherwise: "Check that the store can be reached from here, and its settings (`uzima-backup config`)",
    },
    Check {
        name: "disk",
        after: &["store"],
        run: |context| Box::pin(place::disk(context)),
        otherwise: "Check the disk of BACKUP_DIR (`df`, `dmesg`)",
    },
    Check {
        name: "clock",
        after: &["store"],
        run: |context| Box::pin(place::clock(context)),
        otherwise: "Compare this machine's clock with another one (`timedatectl`)",
    },
    Check {
        name: "freshness",
        after: &["store"],
        run: |context| Box::pin(history::freshness(context)),
        otherwise: "Run `uzima-backup list`",
    },
    Check {
        name: "backups",
        after: &["store"],
        run: |context| Box::pin(history::backups(context)),
        otherwise: "Run `uzima-backup list`, which names them",
    },
    Check {
        name: "drill",
        after: &["store"],
        run: |context| Box::pin(history::drill(context)),
        otherwise: "Run `uzima-backup verify latest --drill`",
    },
    Check {
        name: "key",
        after: &["store"],
        run: |context| Box::pin(key::key(context)),
        otherwise: "Run `uzima-backup list`",
    },
    Check {
        name: "oplog",
        after: &["store"],
        run: |context| Box::pin(oplog::oplog(context)),
        otherwise: "Run `uzima-backup oplog`",
    },
    Check {
        name: COPIES,
        after: &[CONFIGURATION],
        run: |context| Box::pin(apart::apart(context)),
        otherwise: "Run `uzima-backup config`: it shows the places",
    },
    Check {
        name: "records",
        after: &["mongodb"],
        run: |context| Box::pin(environment::records(context)),
        otherwise: "Give the user the role readWrite on uzima_backup, or set BACKUP_RECORDS=off",
    },
    Check {
        name: "mail",
        after: &[CONFIGURATION],
        run: |context| Box::pin(environment::mail(context)),
        otherwise: "Check the settings of mails (`uzima-backup config`), then run `uzima-backup notify --test`",
    },
    Check {
        name: DEAD_MAN,
        after: &["store"],
        run: |context| Box::pin(history::dead_man(context)),
        otherwise: "Run `uzima-backup backup`, which schedules the mail",
    },
    Check {
        name: "state",
        after: &[CONFIGURATION],
        run: |context| Box::pin(environment::state(context)),
        otherwise: "Set state_dir (UZIMA_BACKUP_STATE_DIR) to a directory that this user may write",
    },
];

/// The checks of the first place, and of the machine and the server.
pub(super) fn of_first(has_copies: bool, has_dead_man: bool, options: &HealthOptions) -> Vec<Check> {
    let named = |check: &&Check| match check.name {
        COPIES if !has_copies => options.only.iter().any(|name| name == COPIES),
        DEAD_MAN if !has_dead_man => options.only.iter().any(|name| name == DEAD_MAN),
        _ => true,
    };
    CHECKS.iter().filter(named).copied().collect()
}

/// The checks of a copy.
pub(super) fn of_copy() -> Vec<Check> {
    CHECKS.iter().filter(|check| OF_EACH_PLACE.contains(&check.name)).copied().collect()
}

/// Returns true if the report has a row for the check.
pub(super) fn wanted(check: &Check, options: &HealthOptions) -> bool {
    options.only.is_empty() || options.only.iter().any(|name| name == check.name)
}

/// Returns true if the check is run.
pub(super) fn asked(check: &Check, options: &HealthOptions) -> bool {
    wanted(check, options) && !options.skip.iter().any(|name| name == check.name)
}

/// Runs the selected checks. The rows have the order of `checks`.
pub(super) async fn run(checks: &[Check], context: &Context, options: &HealthOptions) -> Vec<CheckRow> {
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
    // A check that is not run does not delay the checks that depend on it. They find its failure themselves.
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
                running.push(one(check, context));
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

async fn one(check: &Check, context: &Context) -> CheckRow {
    let begun = Instant::now();
    let limit = context.limit(check.name);
    let outcome = tokio::time::timeout(limit, (check.run)(context))
        .await
        .unwrap_or_else(|_| Err(Error::failed(format!("no answer within {} s", limit.as_secs_f32().ceil()))));
    match outcome {
        Ok(finding) => found(check, finding, begun.elapsed()),
        Err(error) => failed(check, &error, begun.elapsed()),
    }
}

/// The row of a check that did not fail.
pub(super) fn found(check: &Check, finding: Finding, took: Duration) -> CheckRow {
    CheckRow {
        name: check.name,
        place: None,
        outcome: finding.outcome,
        detail: one_line(&finding.detail),
        took,
        next_step: finding.next_step.as_deref().map(one_line),
    }
}

/// The row of a check that failed.
pub(super) fn failed(check: &Check, error: &Error, took: Duration) -> CheckRow {
    CheckRow {
        name: check.name,
        place: None,
        outcome: CheckOutcome::Failed,
        detail: one_line(&error.chain()),
        took,
        next_step: Some(one_line(error.next_step().unwrap_or(check.otherwise))),
    }
}

/// The row of a check that was not run.
pub(super) fn skipped(check: &Check, why: String) -> CheckRow {
    let (outcome, took) = (CheckOutcome::Skipped, Duration::ZERO);
    CheckRow { name: check.name, place: None, outcome, detail: why, took, next_step: None }
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
