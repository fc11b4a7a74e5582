//! Reads the documents and the oplog slice of a stored backup from beginning to end.

use tokio::runtime::Handle;

use super::{ANOTHER, StoredBackup};
use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::dumpformat::oplog::NO_REPLAY;
use crate::model::index::Segment;
use crate::model::tally::Tally;
use crate::restore_target::insert;

impl StoredBackup {
    /// Passes every document of a namespace to `each`, in order. Blocks the thread.
    pub(crate) fn scan(&self, at: usize, each: &mut dyn FnMut(&[u8])) -> Result<Tally> {
        let mut read = Tally::default();
        for segment in self.segments(at) {
            read += self.read_segment(&segment, each)?;
        }
        Ok(read)
    }

    /// Passes every document of a segment to `each`, in order. Blocks the thread.
    pub(crate) fn read_segment(&self, segment: &Segment, each: &mut dyn FnMut(&[u8])) -> Result<Tally> {
        self.object.read(segment, &self.name(segment.namespace), &Handle::current(), &mut |run| {
            insert::split(&run.documents).unwrap_or_default().into_iter().for_each(&mut *each);
        })
    }

    /// Passes every entry of the oplog slice to `each`, in order, and compares the slice with index and
    /// manifest. Blocks the thread.
    pub(super) fn scan_slice(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let (Some(slice), Some(at)) = (&self.manifest.consistency.oplog, self.manifest.slice_place()) else {
            return Ok(());
        };
        let read = self.scan(at, each)?;
        let sum = format!("{:032x}", read.sum);
        if (read.documents, read.raw_bytes, &sum) == (slice.entries, slice.raw_bytes, &slice.xxh3_sum) {
            return Ok(());
        }
        let (id, got, wanted) =
            (&self.manifest.id, units::several(read.documents, "entry"), units::count(slice.entries));
        let what = format!(
            "the oplog slice of the backup {id} has {got}, but the manifest says {wanted}, \
             or their hashes differ"
        );
        Err(Error::new(Kind::Mismatch, what).hint(format!("Restore {ANOTHER}. {NO_REPLAY}")))
    }
}
