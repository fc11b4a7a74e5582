//! Directories that are missing, full, failing, or left behind by a dead writer.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use uzima_backup::store::{DirOptions, DirStore, Kind, Limits, Store};

use super::child::{child, said};
use super::support::{MOST, PART, bytes, spec, upload};

fn open(root: &Path, min_free: f64) -> DirStore {
    let mut options = DirOptions::new(root);
    options.min_free = min_free;
    options.limits = Limits { min_part: 1, ..Limits::default() };
    DirStore::new(options).expect("a directory")
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        match entry.file_type().expect("its type").is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// A disk that is not mounted is named, and nothing is written to the disk below it.
#[tokio::test]
async fn no_place() {
    let folder = TempDir::new().expect("a folder");
    let unmounted = folder.path().join("mnt/backups");
    let error = DirStore::new(DirOptions::new(&unmounted)).expect_err("its parent is missing");
    assert_eq!(error.kind, Kind::NoPlace);
    assert!(error.to_string().contains(&unmounted.display().to_string()), "{error}");
    assert!(!folder.path().join("mnt").exists());

    std::fs::write(folder.path().join("file"), "").expect("a file");
    let error = DirStore::new(DirOptions::new(folder.path().join("file"))).expect_err("it is a file");
    assert_eq!(error.kind, Kind::NoPlace, "{error}");

    let store = open(&folder.path().join("backups"), 0.0);
    std::fs::remove_dir(folder.path().join("backups")).expect("the disk goes away");
    assert_eq!(store.list("").await.expect_err("never an empty listing").kind, Kind::NoPlace);
    assert_eq!(store.check().await.expect_err("it is gone").kind, Kind::NoPlace);
    assert_eq!(store.head("a").await.expect_err("never a `None`").kind, Kind::NoPlace);
    assert_eq!(store.begin(&spec("a", PART)).await.err().expect("it is gone").kind, Kind::NoPlace);
}

/// Backups hold everything the database holds: nobody else reads them.
#[tokio::test]
async fn private_modes() {
    let folder = TempDir::new().expect("a folder");
    let root = folder.path().join("backups");
    let store = open(&root, 0.0);
    upload(&store, "2026/11/dump", &bytes(9), PART).await.expect("an upload");
    store.create("2026/11/manifest.json", bytes(9)).await.expect("a create");
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    for folder in [root.clone(), root.join("2026"), root.join("2026/11")] {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
    for file in files(&root) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

/// Deleting the last file of a folder removes the folder, and never the root.
#[tokio::test]
async fn empty_folders_go() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path(), 0.0);
    store.put("2026/11/a/x", bytes(1)).await.expect("a put");
    store.put("2026/12/b/x", bytes(1)).await.expect("a put");
    store.delete("2026/11/a/x").await.expect("a delete");
    assert!(!folder.path().join("2026/11").exists() && folder.path().join("2026/12/b/x").exists());
    store.delete("2026/12/b/x").await.expect("a delete");
    assert!(folder.path().exists() && !folder.path().join("2026").exists());
}

/// Row 26: a live writer's partial is let alone, a dead one's is found and removed.
#[tokio::test]
async fn dead_writer() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path(), 0.0);
    let live = store.begin(&spec("2026/live/dump", 1_000)).await.expect("an upload");
    live.put_part(0, bytes(1_000)).await.expect("a part");
    assert_eq!(store.leftovers().await.expect("a search"), []);
    let error = store.abort_left("2026/live/dump", live.id()).await.expect_err("its writer lives");
    assert!(error.to_string().contains("running process"), "{error}");

    let died = child(&[], "die", folder.path());
    assert!(!died.status.success());
    assert_eq!(store.list("").await.expect("a listing"), []);
    let dead = store.leftovers().await.expect("a search");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].0, "2026/dead/dump");
    store.abort_left(&dead[0].0, &dead[0].1).await.expect("its writer is dead");
    store.abort_left(&dead[0].0, &dead[0].1).await.expect("gone is a success");
    assert_eq!(store.leftovers().await.expect("a search"), []);
    assert!(!folder.path().join("2026/dead").exists());
    live.abort().await.expect("an abort");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
    assert!(store.abort_left("a", "../../etc/passwd").await.is_err());
}

/// Row 40: `min_free`, by the estimate before anything is written and by each part.
#[test]
fn too_little_free() {
    on_small_disk("size=1m", |root| async move {
        let store = open(&root, 0.10);
        let mut large = spec("dump", 100_000);
        large.estimate = Some(1_000_000);
        let error = store.begin(&large).await.err().expect("the estimate does not fit");
        assert_eq!(error.kind, Kind::Full);
        assert!(error.to_string().contains("min_free"), "{error}");
        assert_eq!(files(&root), Vec::<PathBuf>::new());

        let error = upload(&store, "dump", &bytes(1_000_000), 100_000).await.expect_err("nor does it itself");
        assert_eq!(error.kind, Kind::Full);
        assert!(error.to_string().contains("min_free"), "{error}");
        assert_eq!(files(&root), Vec::<PathBuf>::new());
    });
}

/// Row 40: no space on the device, without `min_free`.
#[test]
fn no_space_left() {
    on_small_disk("size=1m", |root| async move {
        let store = open(&root, 0.0);
        store.put("older", bytes(10)).await.expect("a small put");
        for len in [1_100_000, 2_000_000] {
            let error = store.put("older", bytes(len)).await.expect_err("no space");
            assert_eq!(error.kind, Kind::Full, "{error}");
            assert_eq!(store.create("new", bytes(len)).await.expect_err("no space").kind, Kind::Full);
            assert_eq!(
                upload(&store, "dump", &bytes(len), 100_000).await.expect_err("no space").kind,
                Kind::Full
            );
        }
        assert_eq!(store.get("older", MOST).await.expect("a get"), bytes(10));
        assert_eq!(files(&root), [root.join("older")]);
    });
}

/// Row 40: a failed fsync or rename is an error, is not tried again, and leaves nothing.
#[tokio::test]
async fn failing_disk() {
    let calls = ["fsync:error=EIO", "fsync:error=EIO:when=2", "renameat2:error=EIO"];
    for (call, action) in calls.iter().flat_map(|call| [(call, "create"), (call, "upload")]) {
        let folder = TempDir::new().expect("a folder");
        let log = folder.path().join("calls");
        let root = folder.path().join("backups");
        std::fs::create_dir(&root).expect("the root");
        let (name, inject) = (call.split(':').next().unwrap_or_default(), format!("inject={call}"));
        let log_name = log.display().to_string();
        let strace = ["strace", "-f", "-qq", "-o", &log_name, "-e", &format!("trace={name}"), "-e", &inject];
        let output = child(&strace, action, &root);
        let said = said(&output);
        assert!(said.starts_with("Failed") && said.contains("os error 5"), "{call}, {action}: {said}");
        assert_eq!(files(&root), Vec::<PathBuf>::new(), "{call}, {action}");
        let calls = std::fs::read_to_string(&log).expect("strace's log");
        assert_eq!(calls.lines().filter(|l| l.contains("INJECTED")).count(), 1, "{call}, {action}:\n{calls}");
    }
}

/// Runs a test on a tmpfs that only its own thread, and those it starts, can see.
fn on_small_disk<F: Future<Output = ()>>(size: &str, test: impl FnOnce(PathBuf) -> F + Send + 'static) {
    let size = std::ffi::CString::new(size).expect("no NUL");
    let ran = std::thread::spawn(move || {
        let folder = TempDir::new().expect("a folder");
        let target = std::ffi::CString::new(folder.path().as_os_str().as_encoded_bytes()).expect("no NUL");
        // SAFETY: all strings end in NUL; the namespace is this thread's own.
        let mounted = unsafe {
            libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) == 0
                && libc::mount(
                    c"none".as_ptr(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) == 0
                && libc::mount(c"tmpfs".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, size.as_ptr().cast())
                    == 0
        };
        let why = std::io::Error::last_os_error();
        assert!(mounted, "cannot mount a small disk ({why}): run the tests as root or under `unshare -Urm`");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test(folder.path().to_owned()));
        drop(runtime);
        // SAFETY: as above.
        unsafe { libc::umount(target.as_ptr()) };
    });
    if let Err(panic) = ran.join() {
        std::panic::resume_unwind(panic);
    }
}
