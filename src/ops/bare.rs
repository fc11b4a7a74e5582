//! An artifact without the objects that describe it: its data is there all the same.

use std::path::Path;

use crate::base::shell::quoted;
use crate::store::Store;

/// The commands that tell whether the artifact at `key` is whole, and what it holds.
pub fn read_step(store: &dyn Store, key: &str) -> String {
    let place = Path::new(&store.place()).join(key).display().to_string();
    let from = |path: &str| format!("`uzima-backup restore --from {} --dry-run`", quoted(path));
    match place.starts_with("s3://") {
        true => {
            let file = key.rsplit('/').next().unwrap_or(key);
            format!("`aws s3 cp {} .`, then {}", quoted(&place), from(file))
        }
        false => from(&place),
    }
}
