//! Figures compared with figures counted by hand.

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn run(day: &str, status: Status, stored: u64) -> BackupRun {
    let started = at(&format!("{day}T03:00:00Z"));
    let id = format!("{}-aaaaaa", started.format("%Y%m%dT%H%M%SZ")).parse().unwrap();
    let mut run = BackupRun::begun(id, "all@db1", "db1", "s3://b/p", started);
    run.status = status;
    if made(&run) {
        run.finished_at = Some(started + TimeDelta::seconds(10));
        (run.stored_bytes, run.raw_bytes, run.documents) = (Some(stored), Some(3 * stored), Some(5));
    }
    run
}

fn options() -> StatsOptions {
    let policy = Policy { days: 30, min: 3, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
    StatsOptions { job: "all@db1".into(), policy, max_age: Duration::from_secs(30 * 3600), oplog_days: 7 }
}

#[test]
fn a_few_nights_have_the_counted_figures() {
    let runs = [
        run("2026-11-01", Status::Deleted, 1000),
        run("2026-11-20", Status::Failed, 0),
        run("2026-11-21", Status::Completed, 2000),
        run("2026-11-22", Status::Interrupted, 0),
        run("2026-11-23", Status::Completed, 2200),
        run("2026-11-24", Status::Running, 0),
        BackupRun { job: "other".into(), ..run("2026-11-23", Status::Completed, 1 << 40) },
    ];
    let known = JobHistory { runs: runs.into(), ..JobHistory::default() };
    let report = report(&known, &options(), at("2026-11-24T03:00:01Z"));
    let count = |status| report.totals.iter().find(|(s, _)| *s == status).unwrap().1;
    assert_eq!(STATUSES.map(count), [1, 2, 1, 1, 1]);
    assert_eq!((report.backups, report.stored_bytes, report.raw_bytes), (2, 4200, 12_600));
    let success: Vec<_> = report.success.iter().map(|s| (s.days, s.made, s.ended)).collect();
    assert_eq!(success, [(Some(7), 2, 4), (Some(30), 3, 5), (None, 3, 5)]);
    assert_eq!(report.newest.as_ref().unwrap().stored_bytes, Some(2200));
    assert_eq!(report.oldest, Some(at("2026-11-21T03:00:00Z")));
    assert_eq!(report.throughput, Some(600.0));
    assert_eq!(report.last().len(), 6);
    assert_eq!(report.last()[0].outcome, Status::Running);
    let size = report.size.unwrap();
    assert_eq!((size.first, size.last, size.median), (1000.0, 2200.0, 2000.0));
    assert!(size.per_day.unwrap() > 50.0 && size.per_day.unwrap() < 60.0, "{size:?}");
}

#[test]
fn a_job_without_runs_has_no_figures() {
    let report = report(&JobHistory::default(), &options(), at("2026-11-24T03:00:00Z"));
    assert!(report.size.is_none() && report.newest.is_none() && report.periods.is_empty());
    assert_eq!(report.success[0].percent, None);
}

#[test]
fn a_job_is_failing_if_its_last_ended_run_made_no_backup() {
    use Status::{Completed, Deleted, Failed, Interrupted, Running};
    for (oldest_first, want) in [
        (vec![], false),
        (vec![Running], false),
        (vec![Failed, Completed], false),
        (vec![Completed, Failed, Running], true),
        (vec![Completed, Interrupted], true),
        (vec![Failed, Deleted], false),
    ] {
        let nights = oldest_first.iter().enumerate();
        let runs = nights.map(|(n, status)| run(&format!("2026-11-{:02}", n + 20), *status, 1)).collect();
        let known = JobHistory { runs, ..JobHistory::default() };
        let report = report(&known, &options(), at("2026-11-24T03:00:01Z"));
        assert_eq!(report.standing.failing, want, "{oldest_first:?}");
    }
}
