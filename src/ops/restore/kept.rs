//! `restore --kept`, `--undo` and `--discard`: the restores that left a mark at the target. Swaps keep collections until they are
//! discarded; other restores leave a mark only if they were interrupted.

use schemars::JsonSchema;
use serde::Serialize;

use super::continued::InterruptedRestore;
use super::marks::Marks;
use super::swap::{AsideReport, KeptRestore};
use crate::base::error::Result;

/// All restores with a mark at a target.
#[derive(Debug, JsonSchema, Serialize)]
pub struct KeptReport {
    /// The version of the JSON format.
    pub version: u8,
    /// `host:port`.
    pub target: String,
    /// The swaps whose collections are kept, the oldest first.
    pub restores: Vec<KeptRestore>,
    /// The other restores, which were interrupted or are at work, the oldest first.
    pub interrupted: Vec<InterruptedRestore>,
}

impl Marks {
    /// Lists the swaps whose collections are kept, and the interrupted restores.
    ///
    /// # Errors
    /// Returns an error if the target does not answer.
    pub async fn kept(&self) -> Result<KeptReport> {
        let target = self.target.address.clone();
        let (restores, interrupted) = (self.kept_by_swaps().await?, self.interrupted().await?);
        Ok(KeptReport { version: 1, target, restores, interrupted })
    }

    /// Exchanges the live collections of a swap and those that are kept. After an interrupted swap, makes the earlier ones live.
    ///
    /// # Errors
    /// Returns an error if there is no such swap, if its collections are incomplete or gone, or if they could not be moved.
    pub async fn undo(&self, id: &str) -> Result<AsideReport> {
        match self.refuse_undo(id).await? {
            Some(error) => Err(error),
            None => self.undo_swap(id).await,
        }
    }

    /// Drops the collections that a swap keeps, or that an interrupted restore made, and forgets the restore.
    ///
    /// # Errors
    /// Returns an error if there is no such restore, if it is at work, if a swap was interrupted while collections were moved, or if a
    /// live collection does not exist any more, so that the kept one is the only one.
    pub async fn discard(&self, id: &str) -> Result<AsideReport> {
        let Some((collections, notes)) = self.discard_interrupted(id).await? else {
            return self.discard_swap(id).await;
        };
        let target = self.target.address.clone();
        Ok(AsideReport { version: 1, id: id.into(), target, live: None, collections, notes })
    }
}
