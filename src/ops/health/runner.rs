//! Runs checks: at the same time where none needs the other, each bounded in time.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::around::Around;
use super::checks::Check;
use super::{CheckOutcome, CheckRow, HealthOptions};
use crate::base::error::Error;
use crate::base::units::one_line;

/// Whether a check is asked for, so that it has a row.
pub fn wanted(check: &Check, options: &HealthOptions) -> bool {
    options.only.is_empty() || options.only.iter().any(|name| name == check.name)
}

/// Whether a check is to be run.
pub fn asked(check: &Check, options: &HealthOptions) -> bool {
    wanted(check, options) && !options.skip.iter().any(|name| name == check.name)
}

/// Runs all that are wanted; their rows in the order of `checks`.
pub async fn run(checks: &[Check], around: &Around, options: &HealthOptions) -> Vec<CheckRow> {
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
    // What is not asked for holds nothing up: a check that needs it finds out for itself.
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

async fn one(check: &Check, around: &Around) -> CheckRow {
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
