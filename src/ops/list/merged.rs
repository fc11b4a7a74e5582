//! `list` with copies: the rows of all places that answer, merged by id.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{JobRanges, ListOptions, ListReport, ListRow, listed};
use crate::base::error::{Error, Result};
use crate::catalog::CatalogOptions;
use crate::catalog::fault::{BackupFault, ShownStatus};
use crate::catalog::run::{BackupRun, Status};
use crate::model::id::BackupId;
use crate::model::optime::OpTime;
use crate::ops::places::Places;

/// Where a backup is, in the order of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct RowPlaces {
    /// The names of the places where nothing is known to be wrong with the backup.
    #[serde(rename = "places")]
    pub whole: Vec<String>,
    /// The places where the backup has a fault.
    #[serde(rename = "place_faults")]
    pub faults: Vec<PlaceFault>,
}

/// The fault of a backup in one place.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct PlaceFault {
    /// The name of the place.
    pub place: String,
    /// As in the list of this place alone.
    pub status: ShownStatus,
    /// The message.
    pub error: String,
    #[serde(skip)]
    pub(super) fault: BackupFault,
}

/// Lists the runs of all places. Each backup has one row, which shows its places.
///
/// # Errors
/// Returns an error if no place can be read.
pub async fn list_places(
    places: &Places,
    records: &[BackupRun],
    options: &ListOptions,
    reading: &CatalogOptions,
) -> Result<ListReport> {
    if !places.are_several() {
        return super::list(&*places.first_open()?.store, records, options, reading).await;
    }
    // The status of a merged row may be another one than in a single place.
    let all = match options.statuses.is_empty() {
        true => options.clone(),
        false => ListOptions { statuses: ShownStatus::all().collect(), limit: None, ..options.clone() },
    };
    let (mut problems, mut reports) = (places.problems(), Vec::new());
    for place in &places.open {
        match listed(&*place.store, records, &all, reading).await {
            Ok((report, missing)) => {
                problems.extend(missing.map(|missing| format!("the place {}: {missing}", place.name)));
                reports.push((place.name.as_str(), report));
            }
            Err(error) => {
                problems.push(format!("the place {} cannot be read: {}", place.name, error.chain_with_step()))
            }
        }
    }
    if reports.is_empty() {
        return Err(Error::failed(format!("no place can be read: {}", problems.join("; "))));
    }
    let addresses: Vec<String> = reports.iter().map(|(_, report)| report.place.clone()).collect();
    let mut rows: BTreeMap<BackupId, Vec<(&str, ListRow)>> = BTreeMap::new();
    let mut oplog: BTreeMap<String, JobRanges> = BTreeMap::new();
    for (name, report) in reports {
        for row in report.rows {
            rows.entry(row.id.clone()).or_default().push((name, row));
        }
        for ranges in report.oplog {
            // On a tie, the first place is shown.
            let known = oplog.get(&ranges.job);
            if known.is_none_or(|known| end(known) < end(&ranges)) {
                oplog.insert(ranges.job.clone(), ranges);
            }
        }
    }
    let mut rows: Vec<ListRow> = rows.into_values().filter_map(merge).collect();
    rows.retain(|row| row.is_wanted(options));
    rows.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
    rows.truncate(options.limit.unwrap_or(usize::MAX));
    let oplog = oplog.into_values().collect();
    Ok(ListReport { version: 1, place: addresses.join(", "), rows, oplog, problems })
}

/// The last point that can be restored.
fn end(ranges: &JobRanges) -> Option<OpTime> {
    ranges.restorable.ranges.last().map(|range| range.to)
}

/// Merges the rows of one run, in the order of the places. The row of the best place is shown.
pub(super) fn merge(rows: Vec<(&str, ListRow)>) -> Option<ListRow> {
    let mut places = RowPlaces::default();
    for (name, row) in &rows {
        match &row.fault {
            Some(fault) => places.faults.push(PlaceFault {
                place: name.to_string(),
                status: row.status,
                error: fault.why.clone(),
                fault: fault.clone(),
            }),
            None if is_there(row) => places.whole.push(name.to_string()),
            None => {}
        }
    }
    let pinned = rows.iter().find(|(_, row)| row.pinned).map(|(_, row)| row.pin_reason.clone());
    let rows = rows.into_iter().enumerate();
    let best = rows.max_by_key(|(at, (_, row))| (worth(row), Reverse(*at)));
    let (_, (_, row)) = best?;
    Some(ListRow { pinned: pinned.is_some(), pin_reason: pinned.flatten(), places: Some(places), ..row })
}

fn is_there(row: &ListRow) -> bool {
    matches!(row.status, ShownStatus::Run(Status::Completed) | ShownStatus::Archived)
}

/// How much of a backup the place has: the larger, the better.
pub(super) fn worth(row: &ListRow) -> u8 {
    match row.status {
        ShownStatus::Run(Status::Completed) => 5,
        ShownStatus::Archived => 4,
        ShownStatus::Fault(_) => 3,
        ShownStatus::Run(Status::Running) => 2,
        ShownStatus::Run(Status::Failed | Status::Interrupted) => 1,
        ShownStatus::Run(Status::Deleted) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::list::listed_run;

    fn row(status: Status, fault: Option<&str>, pinned: bool) -> ListRow {
        let id: BackupId = "20261124T030000Z-aaaaa1".parse().unwrap();
        let fault = fault.map(|why| BackupFault::unreadable("key", why));
        let run = BackupRun { status, ..BackupRun::begun(id.clone(), "nightly", "db1", "/b", id.started()) };
        ListRow {
            status: ShownStatus::new(status, fault.as_ref()),
            pinned,
            pin_reason: None,
            places: None,
            content: listed_run(run, None, fault.as_ref()),
            fault,
            started: id.started(),
            id,
        }
    }

    #[test]
    fn a_backup_is_as_good_as_in_its_best_place() {
        let rows = vec![
            ("first", row(Status::Completed, Some("it is not JSON"), false)),
            ("offsite", row(Status::Completed, None, true)),
            ("third", row(Status::Deleted, None, false)),
        ];
        let merged = merge(rows).unwrap();
        assert_eq!((merged.status, merged.pinned), (ShownStatus::Run(Status::Completed), true));
        assert!(merged.mismatches(), "the fault in the first place counts");
        let places = merged.places.unwrap();
        assert_eq!(places.whole, ["offsite"]);
        assert_eq!(places.faults.iter().map(|fault| fault.place.as_str()).collect::<Vec<_>>(), ["first"]);
    }

    #[test]
    fn a_run_that_only_the_first_place_knows_is_in_no_place() {
        let merged = merge(vec![("first", row(Status::Failed, None, false))]).unwrap();
        assert_eq!(merged.status, ShownStatus::Run(Status::Failed));
        assert_eq!(merged.places, Some(RowPlaces::default()));
    }
}
