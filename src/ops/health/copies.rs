//! The checks of copies: those of a place, for each of them.
//!
//! The disk of a directory may be elsewhere for days, in a safe for example. A copy whose directory or whose known backups are not
//! there is *away*: a warning while the newest backup that this machine knows there is young enough, and afterwards a failure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::checks::{self, Check};
use super::{CheckRow, Context, CopySubject, Finding, HealthOptions};
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::catalog::place_files::KnownBackups;
use crate::config::place::{FIRST, Place};

/// The checks that the first place shares with copies.
const OF_NO_PLACE: [&str; 8] =
    [checks::CONFIGURATION, "mongodb", "namespaces", "engine", "copies", "records", "mail", "state"];

/// Names the first place in a row about it.
pub(super) fn name_first(row: &mut CheckRow) {
    if !OF_NO_PLACE.contains(&row.name) {
        row.place = Some(FIRST.into());
    }
}

/// The checks of a copy.
pub(super) struct CopyChecks {
    name: String,
    list: Vec<Check>,
    context: Result<Context>,
}

impl CopyChecks {
    pub(super) fn new(copy: &CopySubject, options: &HealthOptions, now: DateTime<Utc>) -> CopyChecks {
        let context =
            |subject| Context { copy: Some(copy.name.clone()), ..Context::new(subject, options, now) };
        CopyChecks {
            name: copy.name.clone(),
            list: checks::of_copy(),
            context: copy.subject.clone().map(context),
        }
    }

    /// Runs the selected checks.
    pub(super) async fn run(&self, options: &HealthOptions) -> Vec<CheckRow> {
        let mut rows = match &self.context {
            // A dead network file system may not answer. Then the checks fail.
            Ok(context) => match tokio::time::timeout(context.patience, away(context)).await.ok().flatten() {
                Some(found) => self.one_cause(found, "because the place is away", options),
                None => checks::run(&self.list, context, options).await,
            },
            Err(wrong) => self.one_cause(Err(wrong.clone()), "because its settings are wrong", options),
        };
        rows.iter_mut().for_each(|row| row.place = Some(self.name.clone()));
        rows
    }

    /// Closes the connections.
    pub(super) async fn close(&self) {
        if let Ok(context) = &self.context {
            context.close().await;
        }
    }

    /// The rows if no check can be run: the first selected one has the cause.
    fn one_cause(&self, cause: Result<Finding>, why: &str, options: &HealthOptions) -> Vec<CheckRow> {
        let mut cause = Some(cause);
        let row = |check: &Check| {
            let skipped = |why: &str| checks::skipped(check, why.into());
            if !checks::asked(check, options) {
                return skipped("by --skip");
            }
            match cause.take() {
                Some(Ok(finding)) => checks::found(check, finding, Duration::ZERO),
                Some(Err(error)) => checks::failed(check, &error, Duration::ZERO),
                None => skipped(why),
            }
        };
        self.list.iter().filter(|check| checks::wanted(check, options)).map(row).collect()
    }
}

/// The finding about a copy in a directory that is not there, or whose known backups are not there; `None` if the place can be checked.
async fn away(context: &Context) -> Option<Result<Finding>> {
    let (Some(name), Place::Dir(options)) = (&context.copy, &context.subject.place) else { return None };
    let settings = &context.subject.settings;
    let place = context.subject.place.name();
    let known = KnownBackups::load(settings.state_dir.as_deref(), &place)?;
    let newest = known.backups.iter().next_back()?;
    let is_there = options.root.try_exists().unwrap_or(true);
    let lacks_known = match is_there {
        // The other checks report an error.
        true => {
            context.state().await.ok()?.and_then(|state| state.missing.as_ref()).is_some_and(|one| one.newest)
        }
        false => true,
    };
    if !lacks_known {
        return None;
    }
    let old = (context.time() - newest.started()).to_std().unwrap_or_default();
    let (age, allowed) = (units::age(old), units::age(settings.max_age));
    let found = format!(
        "{place} is away (is its disk mounted?); its newest known backup {newest} is {age} old, {allowed} are allowed (max_age)"
    );
    let step = format!("Attach the disk, and run `uzima-backup copy --missing --to {name}`");
    Some(match old <= settings.max_age {
        true => Finding::warning(found, step),
        false => Err(Error::failed(found).hint(step)),
    })
}
