//! Directories that are missing, full or failing, and leftovers of a dead writer.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use uzima_backup::config::store::{DirOptions, Limits};
use uzima_backup::store::checksum::crc64nvme;
use uzima_backup::store::{DirStore, Store, StoreErrorKind, Whole};

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

/// A disk that is not mounted is reported, and nothing is written below its mount point.
#[tokio::test]
async fn a_missing_directory_is_reported_and_not_created() {
    let folder = TempDir::new().expect("a folder");
    let unmounted = folder.path().join("mnt/backups");
    let error = DirStore::new(DirOptions::new(&unmounted)).expect_err("its parent is missing");
    assert_eq!(error.kind, StoreErrorKind::NoPlace);
    assert!(error.to_string().contains(&unmounted.display().to_string()), "{error}");
    assert!(!folder.path().join("mnt").exists());

    std::fs::write(folder.path().join("file"), "").expect("a file");
    let error = DirStore::new(DirOptions::new(folder.path().join("file"))).expect_err("it is a file");
    assert_eq!(error.kind, StoreErrorKind::NoPlace, "{error}");

    let store = open(&folder.path().join("backups"), 0.0);
    std::fs::remove_dir(folder.path().join("backups")).expect("the disk goes away");
    assert_eq!(store.list("").await.expect_err("never an empty listing").kind, StoreErrorKind::NoPlace);
    assert_eq!(store.check().await.expect_err("it is gone").kind, StoreErrorKind::NoPlace);
    assert_eq!(store.head("a").await.expect_err("never a `None`").kind, StoreErrorKind::NoPlace);
    assert_eq!(store.begin(&spec("a", PART)).await.err().expect("it is gone").kind, StoreErrorKind::NoPlace);
}

/// Backups hold all data of the database, so only their owner may read them.
#[tokio::test]
async fn files_and_folders_are_readable_by_their_owner_only() {
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

/// Deleting the last file of a folder removes the folder, but never the root.
#[tokio::test]
async fn an_empty_folder_is_removed_with_its_last_file() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path(), 0.0);
    store.put("2026/11/a/x", bytes(1)).await.expect("a put");
    store.put("2026/12/b/x", bytes(1)).await.expect("a put");
    store.delete("2026/11/a/x").await.expect("a delete");
    assert!(!folder.path().join("2026/11").exists() && folder.path().join("2026/12/b/x").exists());
    store.delete("2026/12/b/x").await.expect("a delete");
    assert!(folder.path().exists() && !folder.path().join("2026").exists());
}

/// The partial file of a live writer stays; that of a dead writer is removed.
#[tokio::test]
async fn the_partial_file_of_a_dead_writer_is_removed_and_of_a_live_one_kept() {
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
    store.abort_left(&dead[0].0, &dead[0].1).await.expect("a dead writer's partial file is removed");
    store.abort_left(&dead[0].0, &dead[0].1).await.expect("gone is a success");
    assert_eq!(store.leftovers().await.expect("a search"), []);
    assert!(!folder.path().join("2026/dead").exists());
    live.abort().await.expect("an abort");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
    assert!(store.abort_left("a", "../../etc/passwd").await.is_err());
}

/// `min_free` is checked against the estimate before anything is written, and again for each part.
#[test]
fn min_free_is_checked_before_and_during_an_upload() {
    on_small_disk("size=1m", |root| async move {
        let store = open(&root, 0.10);
        let mut large = spec("dump", 100_000);
        large.estimate = Some(1_000_000);
        let error = store.begin(&large).await.err().expect("the estimate does not fit");
        assert_eq!(error.kind, StoreErrorKind::Full);
        assert!(error.to_string().contains("min_free"), "{error}");
        assert_eq!(files(&root), Vec::<PathBuf>::new());

        let error = upload(&store, "dump", &bytes(1_000_000), 100_000).await.expect_err("nor does it itself");
        assert_eq!(error.kind, StoreErrorKind::Full);
        assert!(error.to_string().contains("min_free"), "{error}");
        assert_eq!(files(&root), Vec::<PathBuf>::new());
    });
}

/// The device is full, and `min_free` is not set.
#[test]
fn a_full_device_fails_the_upload_and_leaves_nothing() {
    on_small_disk("size=1m", |root| async move {
        let store = open(&root, 0.0);
        store.put("older", bytes(10)).await.expect("a small put");
        for len in [1_100_000, 2_000_000] {
            let error = store.put("older", bytes(len)).await.expect_err("no space");
            assert_eq!(error.kind, StoreErrorKind::Full, "{error}");
            assert_eq!(
                store.create("new", bytes(len)).await.expect_err("no space").kind,
                StoreErrorKind::Full
            );
            assert_eq!(
                upload(&store, "dump", &bytes(len), 100_000).await.expect_err("no space").kind,
                StoreErrorKind::Full
            );
        }
        assert_eq!(store.get("older", MOST).await.expect("a get"), bytes(10));
        assert_eq!(files(&root), [root.join("older")]);
    });
}

/// A failed fsync or rename is an error, is not repeated, and leaves no file.
#[tokio::test]
async fn a_failed_fsync_or_rename_fails_the_upload_and_leaves_nothing() {
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

/// A user who may write to the backup directory replaces a folder by a link, at any time, also between the
/// listing and the deletions of a cleanup. Nothing behind the link is read, written or deleted.
#[tokio::test]
async fn a_folder_that_became_a_link_is_not_entered() {
    let folder = TempDir::new().expect("a folder");
    let (root, outside) = (folder.path().join("backups"), folder.path().join("outside"));
    let store = open(&root, 0.0);
    for key in ["2026/11/dump", "2026/11/manifest.json"] {
        store.put(key, bytes(9)).await.expect("a put");
    }
    let listed = store.list("").await.expect("a listing");
    let id = "00112233445566ff";
    std::fs::rename(root.join("2026"), &outside).expect("the folder is moved");
    std::fs::write(outside.join(format!("11/.x.{id}.partial")), "partial").expect("a file");
    std::os::unix::fs::symlink(&outside, root.join("2026")).expect("a link in its place");
    let before = files(&outside);
    for object in &listed {
        let error = store.delete(&object.key).await.expect_err("it is behind a link");
        assert!(error.to_string().contains("is a link, or lies behind one"), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("Remove the link")));
        assert!(store.get(&object.key, MOST).await.is_err());
        assert!(store.get_range(&object.key, 0..1).await.is_err());
        assert!(store.put(&object.key, bytes(1)).await.is_err());
        assert!(store.create(&object.key, bytes(1)).await.is_err());
        assert!(!matches!(store.head(&object.key).await, Ok(Some(_))));
    }
    assert!(store.begin(&spec("2026/11/new", PART)).await.is_err());
    assert!(store.abort_left("2026/11/x", id).await.is_err());
    assert_eq!(store.list("").await.expect("a listing"), []);
    assert_eq!(store.leftovers().await.expect("a search"), []);
    assert_eq!(files(&outside), before);
    // A partial file whose folder is moved during the write stays in that folder.
    std::fs::remove_file(root.join("2026")).expect("the link goes");
    let upload = store.begin(&spec("2026/11/late", PART)).await.expect("an upload");
    std::fs::rename(root.join("2026"), folder.path().join("aside")).expect("the folder is moved");
    std::os::unix::fs::symlink(&outside, root.join("2026")).expect("a link in its place");
    upload.put_part(0, bytes(9)).await.expect("a part");
    let whole = Whole { size: 9, crc64nvme: crc64nvme(&bytes(9)), parts: 1 };
    assert!(upload.complete(&whole).await.is_err());
    assert_eq!(files(&outside), before);
}

/// A FIFO does not block, and a link to a file is not an object.
#[tokio::test]
async fn only_regular_files_are_objects() {
    let folder = TempDir::new().expect("a folder");
    let (root, secret) = (folder.path().join("backups"), folder.path().join("secret"));
    let store = open(&root, 0.0);
    std::fs::write(&secret, "secret").expect("a file");
    let made = std::process::Command::new("mkfifo").arg(root.join("manifest.json")).status();
    assert!(made.expect("mkfifo").success());
    std::os::unix::fs::symlink(&secret, root.join("index")).expect("a link");
    std::os::unix::fs::symlink("/dev/zero", root.join("dump")).expect("a link");
    for key in ["manifest.json", "index", "dump"] {
        let error = store.get(key, MOST).await.expect_err("it is no regular file");
        assert_eq!(error.kind, StoreErrorKind::Damaged, "{error}");
        assert_eq!(store.head(key).await.expect("an answer"), None, "{key}");
    }
    assert_eq!(store.list("").await.expect("a listing"), []);
    // These names are replaced and deleted like the names of regular files.
    store.put("index", bytes(3)).await.expect("a put");
    store.delete("dump").await.expect("a delete");
    assert_eq!(std::fs::read(&secret).expect("the file"), b"secret");
}

/// File systems that a test machine cannot mount: exFAT and sshfs (no hard links), NFS and Lustre (no locks),
/// Gluster, and FUSE without fsync of folders. The system calls that they lack are refused one by one, and
/// all together.
#[test]
fn calls_that_a_file_system_lacks_have_a_substitute() {
    let (rename, link) = ("RENAME_NOREPLACE: a new file", "nor hard links");
    let (locks, sync) = ("no locks (flock)", "no fsync of folders");
    let cases: [(&[&str], &[&str]); 9] = [
        (&["renameat2:error=EINVAL"], &[rename]),
        (&["renameat2:error=EOPNOTSUPP"], &[rename]),
        (&["renameat2:error=ENOSYS", "linkat:error=EPERM"], &[link]),
        (&["renameat2:error=EINVAL", "linkat:error=EOPNOTSUPP"], &[link]),
        (&["renameat2:error=EINVAL", "linkat:error=ENOSYS"], &[link]),
        (&["flock:error=ENOLCK"], &[locks]),
        (&["flock:error=ENOSYS", "fsync:error=EINVAL"], &[locks, sync]),
        (&["fsync:error=EOPNOTSUPP", "syncfs:error=ENOSYS"], &[sync]),
        (
            &[
                "renameat2:error=EOPNOTSUPP",
                "linkat:error=EPERM",
                "flock:error=EOPNOTSUPP",
                "fsync:error=EINVAL",
            ],
            &[link, locks, sync],
        ),
    ];
    for (calls, words) in cases {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path().join("backups");
        std::fs::create_dir(&root).expect("the root");
        let said = said(&child(&refusing(calls).each_str(), "all", &root));
        for word in words {
            assert_eq!(said.matches(word).count(), 1, "{calls:?}: {said}");
        }
        let stored = |key: &str| std::fs::read(root.join("2026").join(key)).expect("an object");
        assert_eq!(stored("manifest.json"), b"{}", "{calls:?}");
        assert_eq!((stored("dump"), stored("mark")), (bytes(2_500).to_vec(), bytes(4).to_vec()), "{calls:?}");
        assert_eq!(files(&root).len(), 3, "{calls:?}: {:?}", files(&root));
    }
}

/// `strace` that makes these system calls fail.
struct Refusing(Vec<String>);

impl Refusing {
    fn each_str(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

fn refusing(calls: &[&str]) -> Refusing {
    let names: Vec<&str> = calls.iter().filter_map(|call| call.split(':').next()).collect();
    let mut command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"].map(String::from).to_vec();
    command.push(format!("trace={}", names.join(",")));
    for call in calls {
        command.extend(["-e".into(), format!("inject={call}")]);
    }
    Refusing(command)
}

/// Without locks, the partial file of a live writer has a heartbeat. A partial file that has been silent for
/// more than a day is dead, and the empty file that reserved its name is removed with it.
#[tokio::test]
async fn without_locks_a_partial_is_dead_after_a_day_of_silence() {
    let folder = TempDir::new().expect("a folder");
    let (old, new) = (".old.00112233445566ff.partial", ".new.00112233445566ff.partial");
    for name in [old, new, "old"] {
        std::fs::write(folder.path().join(name), if name == "old" { "" } else { "x" }).expect("a file");
    }
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
    let file = std::fs::File::options().write(true).open(folder.path().join(old)).expect("a file");
    file.set_modified(then).expect("a time");
    let left = child(&refusing(&["flock:error=ENOLCK"]).each_str(), "left", folder.path());
    assert_eq!(said(&left), r#"["old"]"#);
    let store = open(folder.path(), 0.0);
    assert_eq!(store.list("").await.expect("a listing"), []);
    store.abort_left("old", "00112233445566ff").await.expect("a dead writer's partial file is removed");
    assert_eq!(files(folder.path()), [folder.path().join(new)]);
}

/// Runs a test on a tmpfs that only this thread and the threads it starts can see.
fn on_small_disk<F: Future<Output = ()>>(size: &str, test: impl FnOnce(PathBuf) -> F + Send + 'static) {
    let size = std::ffi::CString::new(size).expect("no NUL");
    let ran = std::thread::spawn(move || {
        let folder = TempDir::new().expect("a folder");
        let target = std::ffi::CString::new(folder.path().as_os_str().as_encoded_bytes()).expect("no NUL");
        // SAFETY: all strings end in NUL, and the mount namespace belongs to this thread.
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
        // SAFETY: the string ends in NUL, and the mount namespace belongs to this thread.
        unsafe { libc::umount(target.as_ptr()) };
    });
    if let Err(panic) = ran.join() {
        std::panic::resume_unwind(panic);
    }
}
