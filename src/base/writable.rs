//! Files that other users can change, by the file itself or by a folder or link on its path.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The sticky bit: in such a folder only its owner and a file's owner remove or rename the file.
const STICKY: u32 = 0o1000;

/// A file, folder or link that another user than root and the running one can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    /// Its path.
    pub path: PathBuf,
    mode: u32,
    owner: u32,
    group: u32,
    foreign: bool,
}

impl Writable {
    /// The command that takes the right away.
    pub fn remedy(&self) -> String {
        let command = if self.foreign { "chown root" } else { "chmod go-w" };
        format!("{command} {}", self.path.display())
    }
}

impl fmt::Display for Writable {
    /// `others can change /opt/bin (mode 0777, user 0, group 0)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, mode) = (self.path.display(), self.mode & 0o7777);
        write!(f, "others can change {path} (mode {mode:04o}, user {}, group {})", self.owner, self.group)
    }
}

/// Whose right to write counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// A program that this process runs. For root: everybody's but root's and that of root's group. For another user:
    /// the right of all users; the packages and folders of other users are not this user's business.
    Program,
    /// A configuration file: everybody's but root's and this user's.
    Configuration,
}

/// The first file, folder or link on a path that others can change, by `lstat`; the links at the path's end are followed
/// one by one.
///
/// # Errors
/// Returns an error if something on the path cannot be looked at.
pub fn by_others(path: &Path, strictness: Strictness) -> io::Result<Option<Writable>> {
    let user = rustix::process::geteuid().as_raw();
    let mut seen = BTreeSet::new();
    let mut path = std::path::absolute(path)?;
    for _ in 0..40 {
        let above = path.parent().unwrap_or(Path::new("/"));
        // The folders by their names, behind which links may stand, and those that they lead to.
        let real = fs::canonicalize(above)?;
        for folder in real.ancestors().chain(above.ancestors()) {
            if seen.insert(folder.to_path_buf())
                && let Some(found) = judged(folder, &fs::metadata(folder)?, user, strictness)
            {
                return Ok(Some(found));
            }
        }
        let meta = fs::symlink_metadata(&path)?;
        if !meta.is_symlink() {
            return Ok(judged(&path, &meta, user, strictness));
        }
        path = above.join(fs::read_link(&path)?);
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn judged(path: &Path, meta: &Metadata, user: u32, strictness: Strictness) -> Option<Writable> {
    let (mode, owner, group) = (meta.mode(), meta.uid(), meta.gid());
    let sticky = meta.is_dir() && mode & STICKY != 0;
    let foreign = user == 0 && owner != 0;
    let by_all = mode & 0o002 != 0 && !sticky;
    let by_group = mode & 0o020 != 0
        && !sticky
        && match strictness {
            Strictness::Program => user == 0 && group != 0,
            Strictness::Configuration => true,
        };
    let found = Writable { path: path.to_path_buf(), mode, owner, group, foreign };
    (foreign || by_all || by_group).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_file_is_as_safe_as_its_path() {
        let home = tempfile::tempdir().unwrap();
        let (bin, file, link) =
            (home.path().join("bin"), home.path().join("bin/tool"), home.path().join("link"));
        fs::create_dir(&bin).unwrap();
        fs::write(&file, "").unwrap();
        symlink("bin/tool", &link).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let found = |path: &Path| by_others(path, Strictness::Program).unwrap().map(|found| found.path);
        // A sticky folder above, as /tmp, is none that others change things in.
        for (folder, tool, want) in [
            (0o755, 0o755, None),
            (0o755, 0o757, Some(&file)),
            (0o777, 0o755, Some(&bin)),
            (0o1777, 0o755, None),
        ] {
            mode(&bin, folder);
            mode(&file, tool);
            for path in [&file, &link] {
                let path = found(path).map(|path| fs::canonicalize(path).unwrap());
                assert_eq!(path.as_ref(), want, "{folder:o} {tool:o}");
            }
        }
        mode(&bin, 0o755);
        mode(&file, 0o775);
        let words = by_others(&file, Strictness::Configuration).unwrap().unwrap();
        assert!(
            words.to_string().starts_with(&format!("others can change {} (mode 0775, user ", file.display()))
        );
        assert_eq!(words.remedy(), format!("chmod go-w {}", file.display()));
        assert!(by_others(&home.path().join("none"), Strictness::Program).is_err());
    }

    /// By root, as in CI; others cannot give files away.
    #[test]
    fn for_root_only_what_belongs_to_root_is_safe() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("tool");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o775)).unwrap();
        assert_eq!(by_others(&file, Strictness::Program).unwrap(), None);
        if chown(&file, None, Some(4242)).is_ok() {
            let found = by_others(&file, Strictness::Program).unwrap().expect("its group can write it");
            assert_eq!(found.remedy(), format!("chmod go-w {}", file.display()));
            fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
            chown(&file, Some(4242), Some(0)).unwrap();
            let found = by_others(&file, Strictness::Program).unwrap().expect("its owner can write it");
            assert_eq!(found.remedy(), format!("chown root {}", file.display()));
        }
    }
}
