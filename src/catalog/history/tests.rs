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

fn context(day: u8, held: bool) -> RunContext {
    RunContext { now: time(day), held: held.then(|| ("job".into(), "host".into())) }
}

fn stored(runs: &[(u8, Status)]) -> StoreRuns {
    let runs: Vec<BackupRun> = runs.iter().map(|(day, status)| run(*day, *status)).collect();
    let with = |status| runs.iter().filter(|r| r.status == status).map(|r| r.id.clone()).collect();
    let (manifests, failures) = (with(Status::Completed), with(Status::Failed));
    StoreRuns { place: "here".into(), runs, manifests, failures }
}

fn found(stored: &StoreRuns, record: BackupRun, context: &RunContext) -> Status {
    let runs = join(stored, std::slice::from_ref(&record), context);
    runs.iter().find(|run| run.id == record.id).unwrap().status
}

#[test]
fn the_store_decides_the_status_of_a_running_record() {
    let running = || run(5, Status::Running);
    assert_eq!(found(&stored(&[]), running(), &context(5, false)), Status::Running);
    assert_eq!(found(&stored(&[]), running(), &context(7, false)), Status::Running);
    assert_eq!(found(&stored(&[]), running(), &context(8, false)), Status::Interrupted);
    assert_eq!(found(&stored(&[]), running(), &context(5, true)), Status::Interrupted);
    for (job, host) in [("job", "other"), ("other", "host")] {
        let held = RunContext { now: time(5), held: Some((job.into(), host.into())) };
        assert_eq!(found(&stored(&[]), running(), &held), Status::Running);
    }
    for status in [Status::Completed, Status::Failed] {
        assert_eq!(found(&stored(&[(5, status)]), running(), &context(5, true)), status);
    }
    // The run failed, even if its object in the store was not read.
    let unread = StoreRuns { failures: [id(5)].into(), ..stored(&[]) };
    assert_eq!(found(&unread, running(), &context(5, false)), Status::Failed);
}

#[test]
fn a_backup_is_deleted_if_it_has_no_manifest_but_not_if_the_manifest_was_not_read() {
    let record = || run(5, Status::Completed);
    assert_eq!(found(&stored(&[(4, Status::Completed)]), record(), &context(6, false)), Status::Deleted);
    let unread = StoreRuns { manifests: [id(5)].into(), ..stored(&[]) };
    assert_eq!(found(&unread, record(), &context(6, false)), Status::Completed);
    // The backup was copied back, so it exists again.
    let back = stored(&[(5, Status::Completed)]);
    assert_eq!(found(&back, run(5, Status::Deleted), &context(6, false)), Status::Completed);
}

#[test]
fn records_of_other_places_are_ignored() {
    let elsewhere = BackupRun { place: "there".into(), ..run(5, Status::Completed) };
    assert_eq!(join(&stored(&[]), std::slice::from_ref(&elsewhere), &context(6, true)), []);
    let none = changes(&stored(&[]), &[elsewhere], &context(6, true));
    assert_eq!(none, RecordChanges::default());
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
    fn the_store_wins_no_run_is_lost_and_joining_again_changes_nothing(
        stored in some_runs(STORED),
        records in some_runs(&STATUSES),
        unread in prop::collection::btree_set((0..12_u8).prop_map(id), 0..3),
        (day, held) in (0..16_u8, any::<bool>()),
    ) {
        let with = |status| stored.iter().filter(move |r| r.status == status).map(|r| r.id.clone());
        let store = StoreRuns {
            place: "here".into(),
            manifests: with(Status::Completed).chain(unread).collect(),
            failures: with(Status::Failed).collect(),
            runs: stored.clone(),
        };
        let context = context(day, held);
        let joined = join(&store, &records, &context);
        prop_assert_eq!(&join(&store, &joined, &context), &joined);
        // Writing the changes makes the records equal to the joined runs, so there are no more changes.
        let changes = changes(&store, &records, &context);
        let mut written: BTreeMap<_, _> = records.iter().map(|r| (r.id.clone(), r.clone())).collect();
        for run in &changes.added {
            prop_assert!(written.insert(run.id.clone(), run.clone()).is_none());
        }
        for run in &changes.corrected {
            prop_assert!(written.insert(run.id.clone(), run.clone()).is_some_and(|old| old != *run));
        }
        let mut written: Vec<BackupRun> = written.into_values().collect();
        written.reverse();
        prop_assert_eq!(&written, &joined);
        prop_assert_eq!(super::changes(&store, &written, &context), RecordChanges::default());
        // Every known id occurs once, newest first.
        let ids: BTreeSet<_> = stored.iter().chain(&records).map(|run| run.id.clone()).collect();
        prop_assert!(joined.iter().map(|run| &run.id).eq(ids.iter().rev()));
        for run in &stored {
            let found = joined.iter().find(|other| other.id == run.id).unwrap();
            let verified = found.verified.clone();
            prop_assert_eq!(found, &BackupRun { verified, ..run.clone() });
        }
        for run in &joined {
            let exists = store.manifests.contains(&run.id);
            prop_assert!(run.status != Status::Completed || exists);
        }
    }
}
