//! The pace at which backups were made, which a forecast takes to go on.

use chrono::TimeDelta;

use super::trend::{self, Trend};
use crate::catalog::run::BackupRun;
use crate::retention::outlook::Pace;

/// So many of the last backups tell it: what was so last year need not be so now.
const LAST: usize = 30;

/// So many times between two backups say something: a first one by hand and one of the night say nothing.
const ENOUGH: usize = 3;

/// That of backups, newest first; one a day while there are too few to tell, or all of them are of one day: an
/// afternoon of tries is no pace.
pub fn of(newest_first: &[&BackupRun], size: Option<&Trend>) -> Pace {
    let last = &newest_first[..newest_first.len().min(LAST)];
    let apart = last.windows(2).map(|w| (w[0].started_at - w[1].started_at).num_seconds() as f64);
    let span = last.first().zip(last.last()).map(|(newest, oldest)| newest.started_at - oldest.started_at);
    let tells = last.len() > ENOUGH && span >= Some(TimeDelta::days(1));
    let between = trend::median(apart).filter(|_| tells).unwrap_or(86_400.0);
    // To the hour: no run begins to the second. More than one an hour changes no forecast that is worth it.
    let hours = (between / 3600.0).round().max(1.0) as i64;
    Pace {
        every: TimeDelta::hours(hours),
        bytes: size.map_or(0.0, |size| size.last),
        per_day: size.and_then(|size| size.per_day).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    #[test]
    fn a_night_that_failed_and_a_backup_by_hand_change_no_pace() {
        let at = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
        let days = ["24T03:00:07", "23T15:20:00", "23T03:00:01", "22T03:00:02", "20T03:00:00", "19T03:00:03"];
        let runs: Vec<BackupRun> = days
            .iter()
            .map(|day| {
                let started = at(&format!("2026-11-{day}Z"));
                let id = format!("{}-aaaaaa", started.format("%Y%m%dT%H%M%SZ")).parse().unwrap();
                BackupRun::begun(id, "j", "h", "p", started)
            })
            .collect();
        let runs: Vec<&BackupRun> = runs.iter().collect();
        assert_eq!(of(&runs, None).every, TimeDelta::days(1));
        assert_eq!(of(&runs[..2], None).every, TimeDelta::days(1));
        let tries: Vec<BackupRun> = (0..6)
            .map(|n| BackupRun { started_at: runs[0].started_at - TimeDelta::minutes(n), ..runs[0].clone() })
            .collect();
        assert_eq!(of(&tries.iter().collect::<Vec<_>>(), None).every, TimeDelta::days(1));
        assert_eq!(of(&[], None), Pace { every: TimeDelta::days(1), bytes: 0.0, per_day: 0.0 });
    }
}
