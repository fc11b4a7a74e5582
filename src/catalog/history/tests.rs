use proptest::prelude::*;

use super::*;
use crate::catalog::run::{STATUSES, Verified};

fn time(day: u8) -> DateTime<Utc> {
    "2026-11-01T03:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day.into())
}

fn id(day: u8) -> BackupId {
    format!("{}-7k3q9d", time(day).format("%Y%m%dT%H%M%SZ")).parse().unwrap()
}

fn run(day: u8, status: Status) -> BackupRun {
    BackupRun { status, ..BackupRun::begun(id(day), "job", "host", "here", time(day)) }
}

fn around(day: u8, held: bool) -> RunContext {
    RunContext { now: time(day), held: held.then(|| ("job".into(), "host".into())) }
}

fn said(runs: &[(u8, Status)]) -> StoreRuns {
    let runs: Vec<BackupRun> = runs.iter().map(|(day, status)| run(*day, *status)).collect();
    let with = |status| runs.iter().filter(|r| r.status == status).map(|r| r.id.clone()).collect();
    let (manifests, failures) = (with(Status::Completed), with(Status::Failed));
    StoreRuns { place: "here".into(), runs, manifests, failures }
}

fn found(said: &StoreRuns, record: BackupRun, around: &RunContext) -> Status {
    let runs = join(said, std::slice::from_ref(&record), around);
    runs.iter().find(|run| run.id == record.id).unwrap().status
}

#[test]
fn a_running_record_is_what_became_of_it() {
    let running = || run(5, Status::Running);
    assert_eq!(found(&said(&[]), running(), &around(5, false)), Status::Running);
    assert_eq!(found(&said(&[]), running(), &around(7, false)), Status::Running);
    assert_eq!(found(&said(&[]), running(), &around(8, false)), Status::Interrupted);
    assert_eq!(found(&said(&[]), running(), &around(5, true)), Status::Interrupted);
    for (job, host) in [("job", "other"), ("other", "host")] {
        let held = RunContext { now: time(5), held: Some((job.into(), host.into())) };
        assert_eq!(found(&said(&[]), running(), &held), Status::Running);
    }
    for status in [Status::Completed, Status::Failed] {
        assert_eq!(found(&said(&[(5, status)]), running(), &around(5, true)), status);
    }
    // What is said about the failure cannot be understood: it failed all the same.
    let unread = StoreRuns { failures: [id(5)].into(), ..said(&[]) };
    assert_eq!(found(&unread, running(), &around(5, false)), Status::Failed);
}

#[test]
fn a_backup_without_a_manifest_is_deleted_and_one_that_was_not_read_is_not() {
    let record = || run(5, Status::Completed);
    assert_eq!(found(&said(&[(4, Status::Completed)]), record(), &around(6, false)), Status::Deleted);
    let unread = StoreRuns { manifests: [id(5)].into(), ..said(&[]) };
    assert_eq!(found(&unread, record(), &around(6, false)), Status::Completed);
    // Copied back from elsewhere: it exists again.
    let back = said(&[(5, Status::Completed)]);
    assert_eq!(found(&back, run(5, Status::Deleted), &around(6, false)), Status::Completed);
}

#[test]
fn other_places_are_left_alone() {
    let elsewhere = BackupRun { place: "there".into(), ..run(5, Status::Completed) };
    assert_eq!(join(&said(&[]), std::slice::from_ref(&elsewhere), &around(6, true)), []);
    let none = differences(&said(&[]), &[elsewhere], &around(6, true));
    assert_eq!(none, Differences::default());
}

fn some_runs(statuses: &'static [Status]) -> impl Strategy<Value = Vec<BackupRun>> {
    let one = (0..12_u8, prop::sample::select(statuses), 0..3_u64, any::<bool>(), any::<bool>());
    let run = |(day, status, documents, verified, host): (u8, Status, u64, bool, bool)| BackupRun {
        documents: Some(documents),
        host: if host { "host".into() } else { "other".into() },
        verified: verified.then(|| Verified { at: time(day), sound: true, drilled: None }),
        ..run(day, status)
    };
    prop::collection::vec(one.prop_map(run), 0..12).prop_map(|mut runs: Vec<BackupRun>| {
        runs.sort_by(|a, b| a.id.cmp(&b.id));
        runs.dedup_by(|a, b| a.id == b.id);
        runs
    })
}

const STORED: &[Status] = &[Status::Completed, Status::Failed];

proptest! {
    #[test]
    fn the_store_wins_nothing_is_lost_and_twice_is_once(
        stored in some_runs(STORED),
        records in some_runs(&STATUSES),
        unread in prop::collection::btree_set((0..12_u8).prop_map(id), 0..3),
        (day, held) in (0..16_u8, any::<bool>()),
    ) {
        let with = |status| stored.iter().filter(move |r| r.status == status).map(|r| r.id.clone());
        let said = StoreRuns {
            place: "here".into(),
            manifests: with(Status::Completed).chain(unread).collect(),
            failures: with(Status::Failed).collect(),
            runs: stored.clone(),
        };
        let around = around(day, held);
        let joined = join(&said, &records, &around);
        prop_assert_eq!(&join(&said, &joined, &around), &joined);
        // Writing the differences, and no others, makes records say it; then there are none.
        let differences = differences(&said, &records, &around);
        let mut written: BTreeMap<_, _> = records.iter().map(|r| (r.id.clone(), r.clone())).collect();
        for run in &differences.added {
            prop_assert!(written.insert(run.id.clone(), run.clone()).is_none());
        }
        for run in &differences.corrected {
            prop_assert!(written.insert(run.id.clone(), run.clone()).is_some_and(|old| old != *run));
        }
        let mut written: Vec<BackupRun> = written.into_values().collect();
        written.reverse();
        prop_assert_eq!(&written, &joined);
        prop_assert_eq!(super::differences(&said, &written, &around), Differences::default());
        // One of each id that somebody knows, newest first.
        let ids: BTreeSet<_> = stored.iter().chain(&records).map(|run| run.id.clone()).collect();
        prop_assert!(joined.iter().map(|run| &run.id).eq(ids.iter().rev()));
        for run in &stored {
            let found = joined.iter().find(|other| other.id == run.id).unwrap();
            let verified = found.verified.clone();
            prop_assert_eq!(found, &BackupRun { verified, ..run.clone() });
        }
        for run in &joined {
            let exists = said.manifests.contains(&run.id);
            prop_assert!(run.status != Status::Completed || exists);
        }
    }
}
