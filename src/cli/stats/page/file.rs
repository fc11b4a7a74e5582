//! The page as a file.

use std::fs;
use std::path::{Path, PathBuf};

use crate::base::beneath::settled;
use crate::base::error::{Error, Result};
use crate::base::files::replace;

/// A web server reads it, which is another user.
const MODE: u32 = 0o644;

/// Whether a page can be written there, as far as that can be told before there is one.
///
/// # Errors
/// Returns a usage error that names the path if something other than a file is there, a link that another user can have
/// made, or a folder that does not exist.
pub fn check(path: &Path) -> Result<()> {
    let wrong = |why: String| {
        Err(Error::usage(format!("--html {}: {why}", path.display()))
            .hint("Name a file in a directory that is there; it is written anew each time"))
    };
    match fs::metadata(path) {
        // A device would be replaced by a file.
        Ok(there) if !there.is_file() => return wrong("it is there, and is not a file".into()),
        Ok(_) => return settled(path).map(drop).or_else(|e| wrong(e.to_string())),
        Err(_) => {}
    }
    if path.file_name().is_none() {
        return wrong("it is not a file's name".into());
    }
    match fs::metadata(folder(path)) {
        // Also a link that leads nowhere may be another user's.
        Ok(folder) if folder.is_dir() => settled(path).map(drop).or_else(|e| wrong(e.to_string())),
        Ok(_) => wrong(format!("{} is not a directory", folder(path).display())),
        Err(e) => wrong(format!("{}: {e}", folder(path).display())),
    }
}

/// Writes the page, in place of what is there.
///
/// # Errors
/// If it cannot be written; what was there is as it was.
pub fn write(path: &Path, page: &str) -> Result<()> {
    // A link stays: the file to which it leads is replaced.
    settled(path).and_then(|target| replace(&target, page.as_bytes(), MODE)).map_err(|e| {
        Error::failed(format!("cannot write the page {}", path.display()))
            .hint("Name a file in a directory that this user may write, with room for it: --html FILE")
            .caused_by(e)
    })
}

fn folder(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_page_is_replaced_whole_and_links_stay() {
        let home = tempfile::tempdir().unwrap();
        let (file, link) = (home.path().join("stats.html"), home.path().join("link.html"));
        check(&file).unwrap();
        write(&file, "one").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
        std::os::unix::fs::symlink("stats.html", &link).unwrap();
        check(&link).unwrap();
        write(&link, "two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[test]
    fn what_is_no_file_is_named_before_anything_is_done() {
        let home = tempfile::tempdir().unwrap();
        let missing = home.path().join("no/stats.html");
        for path in [home.path(), Path::new("/dev/null"), &missing, Path::new("..")] {
            let error = check(path).unwrap_err();
            assert_eq!(error.exit(), crate::base::exit::Exit::Usage);
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
        check(Path::new("stats.html")).unwrap();
        let error = write(&missing, "page").unwrap_err();
        assert!(error.chain().contains("No such file") && error.exit() == crate::base::exit::Exit::Failed);
    }
}
