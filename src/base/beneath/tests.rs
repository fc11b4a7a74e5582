use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::sync::mpsc;
use std::time::Duration;

use super::*;

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// Runs `work` on a thread, and fails if it waits, for example for the other end of a FIFO.
#[track_caller]
fn at_once<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || answer.send(work()));
    answered.recv_timeout(Duration::from_secs(60)).expect("it does not wait for anything")
}

/// Tries each operation on a name behind a link, and on a link itself.
#[test]
fn no_link_below_the_folder_is_followed() {
    let home = tempfile::tempdir().unwrap();
    let (root, outside) = (home.path().join("root"), home.path().join("outside"));
    fs::create_dir_all(root.join("real")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    symlink("../outside", root.join("out")).unwrap();
    symlink("../outside/file", root.join("link")).unwrap();
    symlink("../outside/new", root.join("dangling")).unwrap();
    let folder = Folder::open(&root).unwrap();
    for name in
        ["out/file", "../outside/file", "real/../../outside/file", "link", "/etc/passwd"].map(Path::new)
    {
        assert!(folder.read(name).is_err(), "{name:?}");
        assert!(folder.open_or_create(name, 0o600).is_err(), "{name:?}");
        assert!(folder.create_file(name, 0o600).is_err(), "{name:?}");
    }
    assert_eq!(
        folder.read(Path::new("out/file")).unwrap_err().raw_os_error(),
        Some(rustix::io::Errno::LOOP.raw_os_error())
    );
    for name in ["out/file", "out/new"].map(Path::new) {
        assert!(folder.remove(name).is_err() && folder.about(name).is_err(), "{name:?}");
        assert!(folder.make_folder(name, 0o700).is_err(), "{name:?}");
    }
    assert!(folder.open_or_create(Path::new("dangling"), 0o600).is_err());
    assert!(folder.folder(Path::new("out")).is_err() && folder.remove_folder(Path::new("out")).is_err());
    // Only a name without folders can be renamed, so nothing leaves the folder.
    fs::write(root.join("a"), "a").unwrap();
    for to in ["out/new", "../outside/new"].map(Path::new) {
        assert!(folder.rename(Path::new("a"), to).is_err() && folder.rename_new(Path::new("a"), to).is_err());
    }
    // A link itself can be removed and replaced.
    folder.rename(Path::new("a"), Path::new("link")).unwrap();
    folder.remove(Path::new("out")).unwrap();
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "precious");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

/// Another user may have put any object in the place of a file.
#[test]
fn only_regular_files_are_opened_and_nothing_blocks() {
    let home = tempfile::tempdir().unwrap();
    let (pipe, other) = (home.path().join("pipe"), home.path().join("other"));
    fifo(&pipe);
    fs::write(&other, "other").unwrap();
    fs::hard_link(&other, home.path().join("hard")).unwrap();
    fs::create_dir(home.path().join("sub")).unwrap();
    let path = home.path().to_path_buf();
    let errors = at_once(move || {
        let folder = Folder::open(&path).unwrap();
        let read = ["pipe", "sub"].map(|name| folder.read(Path::new(name)).unwrap_err().to_string());
        let named = read_named(&path.join("pipe"), 9).unwrap_err().to_string();
        let written = ["pipe", "hard"].map(|name| folder.open_or_create(Path::new(name), 0o600).unwrap_err());
        let appended = append_named(&path.join("hard"), 0o600).unwrap_err();
        (read, named, written.map(|e| e.to_string()), appended.to_string())
    });
    assert_eq!(errors.0, ["it is a FIFO, not a regular file", "it is a directory"]);
    assert_eq!(errors.1, "it is a FIFO, not a regular file");
    assert_eq!(errors.2[0], "it is a FIFO, not a regular file");
    assert!(errors.2[1].contains("hard links") && errors.3.contains("hard links"), "{errors:?}");
    assert!(read_named(Path::new("/dev/zero"), 9).unwrap_err().to_string().contains("device"));
    assert_eq!(read_named(Path::new("/dev/null"), 9).unwrap().0, b"");
    assert_eq!(fs::read_to_string(&other).unwrap(), "other");
}

#[test]
fn a_file_above_the_bound_is_not_read() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "12345").unwrap();
    let folder = Folder::open(home.path()).unwrap();
    assert_eq!(folder.read_all(Path::new("file"), 5).unwrap(), b"12345");
    let error = folder.read_all(Path::new("file"), 4).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (io::ErrorKind::FileTooLarge, "it has more than 4 bytes")
    );
}

/// Needs root, as in CI: other users cannot give files away.
#[test]
fn new_files_and_folders_belong_to_the_owner_of_the_folder_and_old_ones_keep_theirs() {
    let home = tempfile::tempdir().unwrap();
    let me = rustix::process::geteuid().as_raw();
    let owner = if me == 0 { 4242 } else { me };
    let owner_of = |path: &str| {
        let stat = fs::symlink_metadata(home.path().join(path)).unwrap();
        std::os::unix::fs::MetadataExt::uid(&stat)
    };
    fs::write(home.path().join("old"), "old").unwrap();
    chown(home.path(), Some(owner), None).unwrap();
    let folder = Folder::create(&home.path().join("a/b"), 0o700).unwrap();
    Folder::create(&home.path().join("a/b"), 0o700).unwrap();
    folder.create_file(Path::new("file"), 0o600).unwrap();
    folder.open_or_create(Path::new("lock"), 0o600).unwrap();
    for made in ["a", "a/b", "a/b/file", "a/b/lock"] {
        assert_eq!(owner_of(made), owner, "{made}");
    }
    assert_eq!(home.path().join("a").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let old = Folder::open(home.path()).unwrap().open_or_create(Path::new("old"), 0o600).unwrap();
    assert_eq!((owner_of("old"), old.metadata().unwrap().len()), (me, 3));
    // A file has the folder's name, and folders that cannot be created.
    assert!(Folder::create(&home.path().join("old"), 0o700).is_err());
    assert!(Folder::create(&home.path().join("old/c"), 0o700).is_err());
    assert!(Folder::create(Path::new("/proc/nothing/here"), 0o700).is_err());
}

#[test]
fn rename_new_does_not_replace_a_file() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::open(home.path()).unwrap();
    for name in ["a", "b"] {
        fs::write(home.path().join(name), name).unwrap();
    }
    let (a, b, c) = (Path::new("a"), Path::new("b"), Path::new("c"));
    assert_eq!(folder.rename_new(a, c).unwrap(), Renamed::AtOnce);
    assert_eq!(folder.rename_new(b, c).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(home.path().join("c")).unwrap(), "a");
    let mut names = folder.names().unwrap();
    names.sort();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn a_link_is_resolved_unless_another_user_can_have_made_it() {
    let home = tempfile::tempdir().unwrap();
    let (file, link, chain) = (home.path().join("file"), home.path().join("link"), home.path().join("chain"));
    symlink("file", &link).unwrap();
    symlink(&link, &chain).unwrap();
    for path in [&file, &link, &chain] {
        assert_eq!(settled(path).unwrap(), file);
    }
    symlink("loop", home.path().join("loop")).unwrap();
    assert!(settled(&home.path().join("loop")).is_err());
    append_named(&link, 0o600).unwrap();
    assert!(file.exists());
    // The log may be written to the standard error.
    append_named(Path::new("/dev/stderr"), 0o600).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = settled(&link).unwrap_err().to_string();
    assert!(error.contains("another user") && error.contains("leads to file"), "{error}");
    assert!(append_named(&link, 0o600).is_err());
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if chown(home.path(), Some(4242), None).is_ok() {
        assert!(settled(&link).is_err(), "its folder belongs to somebody else");
    }
}
