//! The files of the store on the disk.

use std::collections::BTreeMap;

use super::world::World;

/// The size and the modification time, in nanoseconds, of each file.
pub type Files = BTreeMap<String, (u64, std::time::SystemTime)>;

impl World {
    /// All files below the root, also the hidden ones.
    pub fn files(&self) -> Files {
        let mut files = Files::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
                let meta = entry.metadata().expect("metadata");
                if meta.is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let key =
                    entry.path().strip_prefix(self.root()).expect("below the root").display().to_string();
                files.insert(key, (meta.len(), meta.modified().expect("a time")));
            }
        }
        files
    }

    pub fn read(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.root().join(key)).ok()
    }
}
