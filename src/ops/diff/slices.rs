//! The documents that the oplog slice of a backup writes: they are of another moment than the rest of the artifact.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::RawBsonRef;

use super::DiffScope;
use crate::base::error::Result;
use crate::base::progress::Meter;
use crate::dumpformat::oplog::TargetNamespace;
use crate::dumpformat::oplog::script::ReplayStep;
use crate::ops::restore::replay::{follow_all, written_id};
use crate::ops::restore::{RestoreOrigin, StoredBackup};

/// The commands that remove documents.
const EMPTYING: [&str; 2] = ["emptycapped", "convertToCapped"];

/// Takes the place of a namespace in the list of names, and the `_id` of a document.
type TakeWrite<'a> = &'a mut dyn FnMut(usize, RawBsonRef) -> Result<()>;

/// What a slice does to the compared namespaces.
#[derive(Debug, Default)]
pub(super) struct SliceWrites {
    /// The number of its operations that change documents.
    pub writes: u64,
    /// The places of the namespaces that it drops, renames or empties: all their documents are touched.
    pub rewritten: BTreeSet<usize>,
    /// Why the slice cannot be followed to its end.
    pub unclear: Option<String>,
}

impl SliceWrites {
    /// Reads the slice of a backup, and passes each write to the namespaces `names` to `take`. Blocks the thread.
    ///
    /// # Errors
    /// Returns an error if the slice is damaged or the store fails, and the error of `take`.
    pub fn read(
        stored: &Arc<StoredBackup>,
        scope: &DiffScope,
        names: &[String],
        meter: &Meter,
        take: TakeWrite,
    ) -> Result<SliceWrites> {
        let mut found = SliceWrites::default();
        if stored.manifest.consistency.oplog.is_none() {
            return Ok(found);
        }
        let places: BTreeMap<&str, usize> =
            names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let origin = RestoreOrigin::Stored(Arc::clone(stored));
        let mut failed = None;
        let mut each = |step: ReplayStep| {
            if failed.is_none() {
                failed = found.take(&step, scope, &places, take).err();
            }
            Ok(())
        };
        let unclear = follow_all(&origin, &mut each, &mut |bytes| meter.add(0, bytes));
        failed.map_or(Ok(()), Err)?;
        found.unclear = unclear?
            .map(|why| format!("later writes of the slice of {} are unknown: {why}", stored.manifest.id));
        Ok(found)
    }

    fn take(
        &mut self,
        step: &ReplayStep,
        scope: &DiffScope,
        places: &BTreeMap<&str, usize>,
        take: TakeWrite,
    ) -> Result<()> {
        match step {
            ReplayStep::Write { to, operation, .. } => {
                let name = to.backup_name();
                if scope.has(&to.from_db, &name) {
                    self.writes += 1;
                    if let (Some(at), Some(id)) = (places.get(name.as_str()), written_id(operation)) {
                        return take(*at, id);
                    }
                }
            }
            ReplayStep::Modify { to, form } if EMPTYING.contains(&form.name()) => {
                self.rewrite([to], scope, places);
            }
            ReplayStep::Drop(to) => self.rewrite([to], scope, places),
            ReplayStep::Rename { from, to, .. } => self.rewrite([from, to], scope, places),
            ReplayStep::DropAll { from_db, views: false } => {
                let of_db = |name: &str| name.split_once('.').is_some_and(|(db, _)| db == from_db);
                self.rewritten.extend(places.iter().filter(|(name, _)| of_db(name)).map(|(_, at)| *at));
            }
            ReplayStep::DropAll { .. }
            | ReplayStep::Create { .. }
            | ReplayStep::Modify { .. }
            | ReplayStep::Index { .. } => {}
        }
        Ok(())
    }

    fn rewrite<const N: usize>(
        &mut self,
        named: [&TargetNamespace; N],
        scope: &DiffScope,
        places: &BTreeMap<&str, usize>,
    ) {
        for to in named {
            let name = to.backup_name();
            self.writes += u64::from(scope.has(&to.from_db, &name));
            self.rewritten.extend(places.get(name.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::dumpformat::oplog::script::ChangeForm;

    fn target(name: &str) -> TargetNamespace {
        let (db, collection) = name.split_once('.').unwrap();
        TargetNamespace {
            db: db.into(),
            collection: collection.into(),
            buckets: false,
            from_db: db.into(),
            from: collection.into(),
        }
    }

    fn write(name: &str, operation: bson::RawDocumentBuf) -> ReplayStep {
        ReplayStep::Write { to: target(name), operation, exact: None }
    }

    fn modify(name: &str, command: &str) -> ReplayStep {
        let mut named = bson::RawDocumentBuf::new();
        named.append(bson::raw::CString::try_from(command).unwrap(), "a");
        let form = ChangeForm::Command(named);
        ReplayStep::Modify { to: target(name), form }
    }

    /// The number of writes, the rewritten namespaces, and the written `_id`s, for the namespaces `shop.a`, `shop.b` and `blog.a`.
    fn followed(steps: &[ReplayStep], scope: &str) -> (u64, Vec<usize>, Vec<(usize, i32)>) {
        let places = [("shop.a", 0), ("shop.b", 1), ("blog.a", 2)].into();
        let (mut found, mut ids) = (SliceWrites::default(), Vec::new());
        for step in steps {
            let mut take = |at, id: RawBsonRef| {
                ids.push((at, id.as_i32().unwrap()));
                Ok(())
            };
            found.take(step, &DiffScope::of(Some(scope)), &places, &mut take).unwrap();
        }
        (found.writes, found.rewritten.into_iter().collect(), ids)
    }

    #[test]
    fn the_written_ids_of_each_operation_are_found() {
        let steps = [
            write("shop.a", rawdoc! {"op": "i", "o": {"_id": 1, "n": 1}}),
            write("shop.b", rawdoc! {"op": "u", "o": {"$v": 2, "diff": {}}, "o2": {"_id": 2}}),
            write("shop.a", rawdoc! {"op": "d", "o": {"_id": 3}}),
            write("shop.equal", rawdoc! {"op": "d", "o": {"_id": 4}}),
            write("other.a", rawdoc! {"op": "d", "o": {"_id": 5}}),
            write("shop.a", rawdoc! {"op": "i", "o": {"n": 1}}),
        ];
        assert_eq!(followed(&steps, "shop"), (5, vec![], vec![(0, 1), (1, 2), (0, 3)]));
    }

    #[test]
    fn commands_that_remove_documents_touch_all_of_them() {
        let rename =
            ReplayStep::Rename { from: target("shop.a"), to: target("shop.new"), command: rawdoc! {} };
        assert_eq!(followed(&[ReplayStep::Drop(target("shop.b"))], "shop"), (1, vec![1], vec![]));
        assert_eq!(followed(&[rename], "shop"), (2, vec![0], vec![]));
        assert_eq!(followed(&[modify("shop.b", "emptycapped")], "shop"), (1, vec![1], vec![]));
        assert_eq!(followed(&[modify("shop.b", "collMod")], "shop"), (0, vec![], vec![]));
        let all = |views| ReplayStep::DropAll { from_db: "shop".into(), views };
        assert_eq!(followed(&[all(false)], "shop").1, [0, 1]);
        assert_eq!(followed(&[all(true)], "shop").1, [0_usize; 0]);
    }
}
