//! The staging collections of a restore with `--filter` or `--merge`: the documents that the oplog slice writes are loaded and replayed
//! there before they are chosen. They have names and a mark as the new collections of a swap, so that `--kept` lists what a killed run
//! left, and `--discard` drops it.

use super::mark::{MarkedCollection, RestoreMark};
use super::{ABANDONING, Marks, SwapSide, SwapState};
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::ops::restore::marks::{MarkFormat, encode};
use crate::ops::restore::namespaces::NamespaceKey;
use crate::restore_target::RestoreTarget;

/// The staging collections of a restore that is under way.
#[derive(Debug)]
pub(crate) struct Staging {
    marks: Marks,
    mark: RestoreMark,
}

impl Staging {
    /// Writes the mark. `of` are the namespaces that get staging collections, and `from` is the backup or dump.
    ///
    /// # Errors
    /// Returns an error if the user may not write marks. Then nothing was changed.
    pub(crate) async fn begin(
        target: &RestoreTarget,
        (id, clock): (String, Clock),
        from: String,
        of: impl Iterator<Item = NamespaceKey>,
    ) -> Result<Staging> {
        let marks = Marks { target: target.clone(), clock };
        let now = marks.now();
        let mark = RestoreMark {
            id,
            format: MarkFormat::Swap as u32,
            from,
            started_at: now,
            changed_at: now,
            state: SwapState::Loading,
            staging: true,
            live: SwapSide::Earlier,
            collections: of.map(|(db, name)| MarkedCollection::new(db, name)).collect(),
        };
        marks.target.write_mark(encode(&mark)?, true).await?;
        Ok(Staging { marks, mark })
    }

    /// Drops the staging collections. Returns a warning if they could not be dropped.
    pub(crate) async fn end(mut self) -> Option<String> {
        let dropped = self.marks.drop_loaded(&mut self.mark).await;
        dropped.err().map(|error| {
            let step = self.step();
            format!("the staging collections of the restore could not be dropped: {}. {step}", error.chain())
        })
    }

    /// Drops the staging collections after a restore that failed. Returns the error with what is left.
    pub(crate) async fn abandon(mut self, error: Error) -> Error {
        // The server may be gone, or the run was ended by a signal.
        let dropped = tokio::time::timeout(ABANDONING, self.marks.drop_loaded(&mut self.mark)).await;
        if matches!(dropped, Ok(Ok(()))) {
            return error;
        }
        let steps = error.next_step().map(str::to_string).into_iter().chain([self.step()]);
        let steps = steps.collect::<Vec<_>>().join(". ");
        error.hint(steps)
    }

    fn step(&self) -> String {
        format!("`uzima-backup restore --discard {}` drops the staging collections", self.mark.id)
    }
}
