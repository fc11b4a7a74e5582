use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::notify::events::{
    CleanedPlace, CleanupFrozen, CleanupSuccess, NewestGood, OplogSuccess, RunFailure,
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn times() -> (DateTime<Utc>, DateTime<Utc>) {
    (at("2026-11-23T03:00:00Z"), at("2026-11-23T03:02:30.250Z"))
}

fn failure() -> RunOutcome {
    let error = crate::base::error::Error::failed("x");
    RunOutcome::Failure(RunFailure::of(&error, vec![], NewestGood::Unknown, Duration::from_secs(1)))
}

fn place(name: &str) -> CleanedPlace {
    CleanedPlace {
        name: name.into(),
        place: "/backups".into(),
        frozen: false,
        deleted: vec![],
        kept: 3,
        kept_bytes: 30,
        newest_good: Some(times().0),
    }
}

fn names(samples: &[Sample]) -> Vec<&'static str> {
    samples.iter().map(|sample| sample.name).collect()
}

#[test]
fn every_metric_has_a_sample_and_every_sample_a_metric() {
    let success = RunOutcome::Success(BackupSuccess::example());
    let (backup, cleanup) = (RunKind::Backup, RunKind::Cleanup);
    let good = samples(backup, &success, Exit::Done, times());
    let cleaned = CleanupSuccess { places: vec![place(FIRST)], ..CleanupSuccess::default() };
    let cleaned = samples(cleanup, &RunOutcome::Cleanup(cleaned), Exit::Done, times());
    let mut all = names(&good);
    all.extend(names(&cleaned));
    let (end, chain_start, barrier) = (Some(times().1), Some(times().0), Some(times().0));
    let stored = OplogSuccess { end, chain_start, gap: true, barrier, ..OplogSuccess::default() };
    all.extend(names(&samples(RunKind::Oplog, &RunOutcome::Oplog(stored), Exit::Done, times())));
    // A sample for each thing that was waited for.
    all.dedup();
    let listed: Vec<&str> = METRICS.iter().map(|(name, _)| &name[PREFIX.len()..]).collect();
    assert_eq!(all, listed);
    assert!(METRICS.iter().all(|(name, help)| name.starts_with(PREFIX) && help.ends_with('.')));
    let value = |name: &str| good.iter().find(|sample| sample.name == name).unwrap().value;
    assert_eq!(value("last_run_duration_seconds"), 150.25);
    assert_eq!(value("last_success_duration_seconds"), 137.0);
    assert_eq!(value("last_run_success"), 1.0);
    assert_eq!(value("last_success_data_duration_seconds"), 131.2);
    let waited: Vec<_> =
        good.iter().filter_map(|sample| Some((sample.other.as_deref()?, sample.value))).collect();
    assert_eq!(waited, [("mongodb", 96.4), ("compression", 21.9), ("store", 4.6)]);
}

#[test]
fn a_failure_changes_no_sample_of_a_success() {
    for (operation, outcome) in [
        (RunKind::Backup, failure()),
        (RunKind::Cleanup, failure()),
        (RunKind::Cleanup, RunOutcome::Frozen(CleanupFrozen::default())),
    ] {
        let moved = samples(operation, &outcome, Exit::Failed, times());
        let of_cleanup = operation == RunKind::Cleanup;
        assert_eq!(moved.len(), 4);
        for Sample { name, value, .. } in moved {
            assert_eq!(name.starts_with("cleanup_"), of_cleanup, "{name}");
            assert!(name.contains("last_run_"), "{name}");
            assert!(!name.ends_with("_success") || value == 0.0);
        }
    }
    assert_eq!(samples(RunKind::Other("drill"), &failure(), Exit::Failed, times()), []);
}

#[test]
fn each_place_has_samples_of_its_own() {
    let places = vec![place(FIRST), place("off\"site")];
    let cleaned = CleanupSuccess { places: places.clone(), kept: 3, ..CleanupSuccess::default() };
    let cleaned = samples(RunKind::Cleanup, &RunOutcome::Cleanup(cleaned), Exit::Done, times());
    let frozen = RunOutcome::Frozen(CleanupFrozen { places, ..CleanupFrozen::default() });
    for samples in [cleaned, samples(RunKind::Cleanup, &frozen, Exit::NeedsLook, times())] {
        let mut page = MetricsPage::default();
        samples.iter().for_each(|sample| page.set("a", sample));
        let text = page.text();
        for line in [
            "uzima_backup_place_backups{backup_job=\"a\",place=\"first\"} 3\n",
            "uzima_backup_place_backups{backup_job=\"a\",place=\"off\\\"site\"} 3\n",
            "uzima_backup_place_stored_bytes{backup_job=\"a\",place=\"first\"} 30\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(MetricsPage::read(&text), Ok((page, 0)));
    }
    // A cleanup of a copy alone.
    let copy = CleanupSuccess { places: vec![place("offsite")], ..CleanupSuccess::default() };
    let copy = samples(RunKind::Cleanup, &RunOutcome::Cleanup(copy), Exit::Done, times());
    assert!(!names(&copy).contains(&"cleanup_kept_backups"), "{copy:?}");
}

/// A run without a gap or a barrier leaves the samples of earlier ones.
#[test]
fn a_run_of_oplog_without_a_gap_changes_no_sample_of_a_gap() {
    let stored = |gap| {
        let (end, chain_start) = (Some(times().1), Some(times().0));
        let stored = OplogSuccess { end, chain_start, gap, ..OplogSuccess::default() };
        samples(RunKind::Oplog, &RunOutcome::Oplog(stored), Exit::Done, times())
    };
    let value = |samples: &[Sample], name: &str| {
        samples.iter().find(|sample| sample.name == name).map(|sample| sample.value)
    };
    let (with, without) = (stored(true), stored(false));
    let start = value(&with, "oplog_chain_start_timestamp_seconds");
    assert_eq!(start, Some(times().0.timestamp() as f64));
    assert_eq!(value(&with, "oplog_gap_timestamp_seconds"), start);
    assert_eq!(value(&without, "oplog_gap_timestamp_seconds"), None);
    assert_eq!(value(&with, "oplog_barrier_timestamp_seconds"), None);
}

#[test]
fn a_page_reads_back() {
    let mut page = MetricsPage::default();
    for (job, value) in [("nightly", 1.5), ("a\\b\"c\nd{e=\"f\"} 7", 8_160_437_862.0), ("ü", -0.25)] {
        page.set(job, &("last_success_stored_bytes", value).into());
        page.set(job, &("cleanup_kept_backups", 3.0).into());
        for (seconds, what) in WAITED_FOR.into_iter().enumerate() {
            let name = "last_success_waited_seconds";
            page.set(job, &Sample { name, other: Some(what.into()), value: seconds as f64 });
        }
    }
    let text = page.text();
    assert!(text.contains("stored_bytes{backup_job=\"nightly\"} 1.5\n"), "{text}");
    assert!(
        text.contains("_stored_bytes{backup_job=\"a\\\\b\\\"c\\nd{e=\\\"f\\\"} 7\"} 8160437862\n"),
        "{text}"
    );
    let waited = "_waited_seconds{backup_job=\"nightly\",waited_for=\"store\"} 2\n";
    assert!(text.contains(waited), "{text}");
    assert_eq!(MetricsPage::read(&text), Ok((page, 0)));
}

#[test]
fn damaged_lines_are_counted_and_the_others_kept() {
    let mut page = MetricsPage::default();
    page.set("a", &("last_run_exit_code", 1.0).into());
    let sound = page.text();
    let name = "uzima_backup_last_run_exit_code";
    for damaged in [
        format!("{name}{{backup_job=\"b\"}} 12"),
        format!("{name}{{backup_job=\"b\"}} x\n"),
        format!("{name}{{backup_job=\"b\"}} NaN\n"),
        format!("{name}{{backup_job=\"b\" 1\n"),
        format!("{name}{{backup_job=\"b\\x\"}} 1\n"),
        format!("{name}{{backup_job=\"b\",x=\"\"y\"}} 1\n"),
        format!("{name} 1\n"),
        format!("{name}{{backup_job=\"b\",waited_for=\"store\"}} 1\n"),
        format!("{WAITED}{{backup_job=\"b\"}} 1\n"),
        format!("{WAITED}{{backup_job=\"b\",waited_for=\"godot\"}} 1\n"),
        "uzima_backup_unheard_of{backup_job=\"b\"} 1\n".into(),
        "\0\0\0\0\n".into(),
        "{\n".into(),
    ] {
        assert_eq!(MetricsPage::read(&(sound.clone() + &damaged)), read_one(&sound), "{damaged:?}");
    }
    for foreign in
        ["node_load1 0.5\n", "up{backup_job=\"x\"} 1\n", "# HELP node_load1 Load.\n", "# TYPE x gauge\n"]
    {
        assert_eq!(MetricsPage::read(&(sound.clone() + foreign)), Err(4), "{foreign:?}");
    }
    assert_eq!(MetricsPage::read("# a comment\n\n"), Ok((MetricsPage::default(), 0)));
}

/// The page of a sound text, with one damaged line.
fn read_one(sound: &str) -> Result<(MetricsPage, usize), usize> {
    match MetricsPage::read(sound) {
        Ok((page, 0)) => Ok((page, 1)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_file_is_replaced_for_everyone_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uzima.prom");
    let file = MetricsFile::new(path.clone());
    assert_eq!(file.update("a", &[("last_run_exit_code", 3.0).into()]).await.unwrap(), None);
    assert_eq!(file.update("b", &[("last_run_exit_code", 1.0).into()]).await.unwrap(), None);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("{backup_job=\"a\"} 3\n") && text.contains("{backup_job=\"b\"} 1\n"), "{text}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let files = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
    assert_eq!(files(dir.path()), 1);

    std::fs::write(&path, "node_load1 0.5\n").unwrap();
    let error = file.update("a", &[("last_run_exit_code", 3.0).into()]).await.unwrap_err();
    assert!(error.chain().contains("was not changed: line 1 is a metric of another program"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "node_load1 0.5\n");
    std::fs::write(&path, text.replace(" 3\n", " three\n")).unwrap();
    let told = file.update("a", &[]).await.unwrap().unwrap();
    assert!(told.contains("1 damaged line of "), "{told}");
    assert_eq!(files(dir.path()), 1);

    // Another process holds the lock: the wait is short, and nothing is lost.
    let folder = std::fs::File::open(dir.path()).unwrap();
    folder.lock().unwrap();
    let error = file.update("a", &[("last_run_exit_code", 3.0).into()]).await.unwrap_err();
    assert!(error.chain().contains("locked its folder"), "{error}");
    drop(folder);
    let gone = MetricsFile::new(dir.path().join("gone/uzima.prom"));
    let error = gone.update("a", &[]).await.unwrap_err();
    assert!(error.next_step().unwrap().contains("METRICS_FILE"), "{error}");
}
