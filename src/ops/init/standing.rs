//! What is there where the services of systemd are to write: it decides what root has to do before.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The user of the services, whom the Debian package creates.
pub const USER: &str = "uzima-backup";

/// A file or a folder that the services write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// What is there.
    pub standing: Standing,
    /// Folders above it that only their owner or group may pass, the topmost first.
    pub closed: Vec<PathBuf>,
}

/// What is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Missing,
    /// What belongs to the services' user.
    Own,
    /// A folder of another user's with nothing in it.
    Empty,
    /// What somebody else uses.
    Shared,
}

impl Written {
    /// Looks at a place. `user` is the number of the services' user, if there is one. What cannot be looked
    /// at is as good as missing.
    pub fn look(path: &Path, user: Option<u32>) -> Written {
        let standing = match fs::metadata(path) {
            Err(_) => Standing::Missing,
            Ok(meta) if Some(meta.uid()) == user => Standing::Own,
            Ok(_) if fs::read_dir(path).is_ok_and(|mut folder| folder.next().is_none()) => Standing::Empty,
            Ok(_) => Standing::Shared,
        };
        let closed = |folder: &&Path| {
            fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o001 == 0 && Some(meta.uid()) != user)
        };
        let mut closed: Vec<PathBuf> =
            path.ancestors().skip(1).filter(closed).map(Path::to_path_buf).collect();
        closed.reverse();
        Written { path: path.to_path_buf(), standing, closed }
    }
}

/// The number of the services' user, by the text of `/etc/passwd`.
pub fn user(passwd: &str) -> Option<u32> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.into_iter().find(|fields| fields[0] == USER)?.get(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_place_is_nobodys_the_services_or_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        let standing = |path: &Path, user| Written::look(path, user).standing;
        assert_eq!(standing(&dir.path().join("none"), Some(me)), Standing::Missing);
        assert_eq!(standing(dir.path(), Some(me)), Standing::Own);
        assert_eq!(standing(dir.path(), None), Standing::Empty);
        let file = dir.path().join("dpkg.status.0");
        fs::write(&file, "").unwrap();
        assert_eq!(standing(dir.path(), Some(me + 1)), Standing::Shared);
        assert_eq!(standing(&file, None), Standing::Shared);
    }

    #[test]
    fn folders_that_others_cannot_pass_are_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        let below = dir.path().join("a/b");
        let closed = |user| Written::look(&below, user).closed;
        assert!(closed(Some(me + 1)).contains(&dir.path().to_path_buf()));
        assert!(!closed(Some(me)).contains(&dir.path().to_path_buf()));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!closed(None).contains(&dir.path().to_path_buf()));
    }

    #[test]
    fn the_user_is_found_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nuzima-backup:x:997:996:MongoDB backups:/var/lib/uzima-backup:\n";
        assert_eq!(user(passwd), Some(997));
        assert_eq!(user("root:x:0:0\n\n"), None);
    }
}
