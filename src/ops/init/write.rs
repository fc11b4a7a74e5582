//! Putting the file where it belongs, whole or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::EXAMPLE;
use crate::base::beneath::{read_named, settled};
use crate::base::error::{Error, Result};
use crate::base::files::{create, replace_as};

/// The permissions of a new file: of its owner alone. systemd reads it as root (`LoadCredential=`).
const MODE: u32 = 0o600;
/// The largest configuration file in bytes.
const LARGEST: u64 = crate::config::file::LARGEST;

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Its permissions.
    pub mode: u32,
    /// The copy of the file that was replaced.
    pub kept: Option<PathBuf>,
}

/// Whether there is nothing at `path` that a person would miss. The example as it ships, which the Debian
/// package puts there, is nobody's work.
///
/// # Errors
/// When there is a file, without `force`.
pub fn replaceable(path: &Path, force: bool) -> Result<()> {
    let refused = |what: &str| Err(Error::usage(format!("{} {what}", path.display())));
    match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed(path, e)),
        Ok(meta) if !meta.is_file() => refused("is there already, and is no file")
            .map_err(|e| e.hint("Name another file: --config FILE")),
        Ok(_) if force => Ok(()),
        Ok(_) if read_named(path, LARGEST).is_ok_and(|(text, _)| text == EXAMPLE.as_bytes()) => Ok(()),
        Ok(_) => refused("is there already").map_err(|e| {
            e.hint("Edit it; or have it replaced and a copy kept (--force), or write another one (--config FILE)")
        }),
    }
}

/// Writes the file. One that is replaced keeps its owner and group, and its permissions but for those of everybody;
/// of one that a person wrote a copy is kept beside it.
///
/// # Errors
/// As [`replaceable`], also when a file appeared meanwhile; and when it cannot be written.
pub fn write(path: &Path, text: &str, force: bool) -> Result<Written> {
    replaceable(path, force)?;
    let fail = |e| failed(path, e);
    let above =
        |path: &Path| path.parent().filter(|above| !above.as_os_str().is_empty()).map(Path::to_path_buf);
    fs::create_dir_all(above(path).unwrap_or(".".into())).map_err(fail)?;
    // A link stays: the file to which it leads is replaced.
    let path = &settled(path).map_err(fail)?;
    let folder = above(path).unwrap_or(".".into());
    let fail = |e| failed(path, e);
    let old = fs::metadata(path).ok();
    let mode = old.as_ref().map_or(MODE, |old| old.mode() & 0o770);
    let mut kept = None;
    match old {
        Some(old) => {
            let owner = (old.uid(), old.gid());
            kept = keep(path, mode, owner).map_err(fail)?;
            replace_as(path, text.as_bytes(), mode, owner).map_err(fail)?;
        }
        None => create(path, text.as_bytes(), mode).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => {
                Error::usage(format!("{} was written by somebody else in this very moment", path.display()))
            }
            _ => fail(e),
        })?,
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
    Ok(Written { mode, kept })
}

/// Keeps a copy of what is at `path`, unless that is the example or there is such a copy: dpkg removes a
/// `.bak` with its configuration file. No copy is overwritten.
fn keep(path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<Option<PathBuf>> {
    let (text, _) = read_named(path, LARGEST)?;
    if text == EXAMPLE.as_bytes() {
        return Ok(None);
    }
    let mut middle = String::new();
    for number in 2.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{middle}.bak"));
        let copy = PathBuf::from(name);
        match read_named(&copy, LARGEST).map(|(text, _)| text) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return replace_as(&copy, &text, mode, owner).map(|()| Some(copy));
            }
            Ok(other) if other == text => return Ok(Some(copy)),
            _ => middle = format!(".{number}"),
        }
    }
    Ok(None)
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::failed(format!("cannot write {}", path.display()))
        .hint("Run it as root, or write another file: --config FILE")
        .caused_by(e)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_one_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/deep/config.toml");
        let written = write(&path, "x", false).unwrap();
        assert_eq!((written.mode, written.kept), (0o600, None));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["config.toml"]);
    }

    #[test]
    fn what_is_there_stays_unless_it_may_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "mine").unwrap();
        let error = write(&path, "x", false).unwrap_err();
        assert_eq!((error.exit().code(), fs::read_to_string(&path).unwrap().as_str()), (2, "mine"));
        assert!(error.next_step().unwrap().contains("--force"));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let written = write(&path, "x", true).unwrap();
        let bak = dir.path().join("config.toml.bak");
        assert_eq!((written.mode, written.kept.as_ref()), (0o640, Some(&bak)));
        for file in [&path, &bak] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o640, "everybody may read it no more");
        }
        // The first copy stays, and there is one of each.
        for (text, copy) in
            [("y", "config.toml.2.bak"), ("mine", "config.toml.3.bak"), ("z", "config.toml.bak")]
        {
            assert_eq!(write(&path, text, true).unwrap().kept, Some(dir.path().join(copy)));
        }
        assert_eq!(fs::read_to_string(&bak).unwrap(), "mine");
        // The example of the package, through a link.
        fs::write(&path, EXAMPLE).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(write(&link, "y", false).unwrap().kept, None);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "y");
        assert_eq!(write(dir.path(), "x", true).unwrap_err().exit().code(), 2);
        assert_eq!(write(&path.join("below"), "x", false).unwrap_err().exit().code(), 1);
    }
}
