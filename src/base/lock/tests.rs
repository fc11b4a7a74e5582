use std::os::unix::fs::PermissionsExt;

use super::*;

fn request(state: Option<&Path>, job: &str, operation: Operation) -> LockRequest {
    let started = "2026-11-24T03:00:00Z".parse().unwrap();
    let state_dir = state.map(Path::to_path_buf);
    LockRequest { state_dir, job: job.into(), operation, host: "db1".into(), started, wait: None }
}

#[tokio::test]
async fn only_one_run_per_job_and_operation_gets_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let (state, cancel) = (Some(folder.path()), Cancel::default());
    let backup = request(state, "nightly", Operation::Backup);
    let held = take(&backup, &cancel).await.unwrap().lock.unwrap();
    let error = take(&backup, &cancel).await.unwrap_err();
    assert_eq!((error.kind(), error.exit().code()), (Kind::Busy, 75));
    let pid = std::process::id();
    let want =
        format!("another backup of nightly is under way: process {pid} on db1, since 2026-11-24T03:00:00Z");
    assert_eq!(error.to_string(), want);
    assert!(error.next_step().unwrap().contains("--wait"));
    // Locks of other operations, jobs and state directories are free.
    let other = tempfile::tempdir().unwrap();
    for (state, job, operation) in [
        (state, "nightly", Operation::Cleanup),
        (state, "nightly.backup", Operation::Backup),
        (state, "Nightly", Operation::Backup),
        (Some(other.path()), "nightly", Operation::Backup),
    ] {
        assert!(take(&request(state, job, operation), &cancel).await.unwrap().lock.is_some(), "{job}");
    }
    // The file stays, names no holder, and can be locked again.
    drop(held);
    let file = path(folder.path(), "nightly", Operation::Backup);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(take(&backup, &cancel).await.unwrap().lock.is_some());
}

#[tokio::test]
async fn a_wait_ends_with_the_other_run_after_its_time_or_by_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::default();
    let first = request(Some(folder.path()), "j", Operation::Backup);
    let wait = |wait| LockRequest { wait: Some(wait), ..first.clone() };
    let held = take(&first, &cancel).await.unwrap().lock.unwrap();
    let began = Instant::now();
    let error = take(&wait(Duration::from_millis(300)), &cancel).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert!((300..2000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let ended = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(held);
    };
    let long = wait(Duration::from_secs(60));
    let (second, ()) = tokio::join!(take(&long, &cancel), ended);
    let second = second.unwrap();
    assert!(second.lock.is_some() && began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let signalled = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.by_signal(15);
    };
    let (ended, ()) = tokio::join!(take(&long, &cancel), signalled);
    assert_eq!(ended.unwrap_err().kind(), Kind::Signal(15));
}

#[tokio::test]
async fn a_run_goes_on_without_a_lock_if_nothing_can_be_written() {
    let cancel = Cancel::default();
    let file = tempfile::NamedTempFile::new().unwrap();
    for state in [None, Some(Path::new("/proc/nowhere")), Some(file.path())] {
        assert!(
            take(&request(state, "j", Operation::Backup), &cancel).await.unwrap().lock.is_none(),
            "{state:?}"
        );
    }
}

#[test]
fn every_job_and_operation_has_its_own_file_in_the_folder() {
    let state = Path::new("/s");
    let long = "x".repeat(4000);
    let longer = "x".repeat(4001);
    let jobs =
        [".", "..", "...", "a", "a.", ".a", "a@/tmp/mongodb.sock", "a/../b", "ä", "%C3%A4", &long, &longer];
    let mut seen = std::collections::BTreeSet::new();
    for job in jobs {
        for operation in [Operation::Backup, Operation::Cleanup] {
            let path = path(state, job, operation);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(path, Path::new("/s/locks").join(name));
            assert!(name.len() <= 255 && name.ends_with(".lock"), "{name}");
            assert!(seen.insert(path.clone()), "{job} {operation:?} shares {name}");
        }
    }
    assert_eq!(path(state, "all@db1", Operation::Backup), Path::new("/s/locks/all@db1.backup.lock"));
}

/// Another user may have written anything into a lock's file.
#[tokio::test]
async fn a_file_without_a_valid_holder_names_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (cancel, first) = (Cancel::default(), request(Some(folder.path()), "j", Operation::Cleanup));
    let _held = take(&first, &cancel).await.unwrap().lock.unwrap();
    for content in ["", "pid 1\n", "\u{1b}[2J", "pid 1\nhost \u{1b}[2J\nsince x\n"] {
        std::fs::write(path(folder.path(), "j", Operation::Cleanup), content).unwrap();
        let error = take(&first, &cancel).await.unwrap_err();
        assert_eq!(error.to_string(), "another cleanup of j is under way");
    }
}
