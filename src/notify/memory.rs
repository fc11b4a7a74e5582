//! `notify.json` in the state directory: what was mailed when. To lose it costs a mail too many, so
//! nothing about it ever fails a run.

use std::path::{Path, PathBuf};

use super::flood::{FORMAT, Past, State};
use crate::base::beneath::Folder;
use crate::base::files::replace_in;

/// The file.
pub const FILE: &str = "notify.json";
/// The largest file in bytes; one of ours has some hundred for each job.
const LARGEST: u64 = 4 << 20;

/// The file's keeper. Without a directory nothing is remembered.
#[derive(Debug)]
pub struct Memory {
    folder: Option<PathBuf>,
}

impl Memory {
    /// Keeps the file in `folder`.
    pub fn new(folder: Option<PathBuf>) -> Memory {
        Memory { folder }
    }

    /// What is remembered under a name.
    pub fn past(&self, name: &str) -> Past {
        self.load().runs.remove(name).unwrap_or_default()
    }

    /// Remembers. What another run wrote meanwhile about others stays.
    pub fn remember(&self, name: &str, past: Past) {
        self.change(|state| {
            state.runs.insert(name.into(), past);
            true
        });
    }

    /// Forgets a name.
    pub fn forget(&self, name: &str) {
        self.change(|state| state.runs.remove(name).is_some());
    }

    /// Writes what `change` made of the state, if it says that it did anything.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let Some(folder) = &self.folder else { return };
        let mut state = self.load();
        if !change(&mut state) {
            return;
        }
        if let Err(e) = write(folder, &state) {
            log::warn!(
                "cannot remember in {} what was mailed; there may be a mail too many: {e}",
                folder.display()
            );
        }
    }

    fn load(&self) -> State {
        let text = self.folder.as_ref().and_then(|folder| {
            let folder = Folder::open(folder).ok()?;
            folder.read_all(Path::new(FILE), LARGEST).ok()
        });
        let state = text.and_then(|text| serde_json::from_slice::<State>(&text).ok());
        state.filter(|state| state.format == FORMAT).unwrap_or_default()
    }
}

fn write(folder: &Path, state: &State) -> std::io::Result<()> {
    let folder = Folder::create(folder, 0o700)?;
    replace_in(&folder, Path::new(FILE), &serde_json::to_vec_pretty(state)?, 0o600)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn past(failures: u32) -> Past {
        Past { failures, since: Some("2026-11-23T03:00:00Z".parse().unwrap()), ..Past::default() }
    }

    #[test]
    fn names_are_remembered_apart_in_a_file_of_ones_own() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state/deep");
        let memory = Memory::new(Some(folder.clone()));
        assert_eq!(memory.past("backup a"), Past::default());
        memory.remember("backup a", past(1));
        memory.remember("cleanup a", past(2));
        assert_eq!(memory.past("backup a"), past(1));
        assert_eq!(memory.past("cleanup a"), past(2));
        memory.forget("cleanup a");
        assert_eq!((memory.past("cleanup a"), memory.past("backup a")), (Past::default(), past(1)));
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
        assert_eq!(fs::metadata(folder.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_read_is_lost_and_what_cannot_be_written_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(Some(dir.path().into()));
        for text in ["", "{", "[]", r#"{"format": 2, "runs": {"x": {"failures": 7}}}"#, "\0\0\0"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(memory.past("x"), Past::default(), "{text}");
        }
        memory.remember("x", past(3));
        assert_eq!(memory.past("x"), past(3));
        let in_a_file = Memory::new(Some(dir.path().join(FILE)));
        in_a_file.remember("x", past(1));
        assert_eq!(in_a_file.past("x"), Past::default());
        Memory::new(None).remember("x", past(1));
        assert_eq!(Memory::new(None).past("x"), Past::default());
    }

    /// Whoever may write to the folder puts a link there.
    #[test]
    fn a_link_in_place_of_the_file_is_neither_read_nor_written() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("state"), dir.path().join("other"));
        let memory = Memory::new(Some(folder.clone()));
        memory.remember("x", past(3));
        fs::rename(folder.join(FILE), &other).unwrap();
        let before = fs::read(&other).unwrap();
        std::os::unix::fs::symlink(&other, folder.join(FILE)).unwrap();
        assert_eq!(memory.past("x"), Past::default());
        memory.remember("x", past(1));
        assert_eq!(memory.past("x"), past(1));
        assert_eq!(fs::read(&other).unwrap(), before);
    }
}
