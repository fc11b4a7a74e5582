//! Sends commands to the target. A command is sent again while its failure may pass, because one lost connection must
//! not end the restore. Commands without an answer are counted, so that a restore that ends early can wait for them.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bson::{Document, RawDocumentBuf};
use tokio::sync::watch;

use super::RestoreTarget;
use crate::mongo::commands;
use crate::mongo::errors;
use crate::mongo::errors::Class;

/// The longest wait for the answer to an ordinary command. Building an index may take longer.
const STALL: Duration = Duration::from_secs(600);

/// The answer to a command that may have been sent more than once.
pub(super) struct SentCommand {
    pub(super) answer: mongodb::error::Result<Document>,
    /// True if the command was sent more than once. Then the server may have carried it out before the last
    /// answer.
    pub(super) repeated: bool,
}

impl RestoreTarget {
    /// Sends a command once and returns the answer.
    pub(super) async fn run(&self, db: &str, command: RawDocumentBuf) -> mongodb::error::Result<Document> {
        self.run_for(STALL, db, command).await
    }

    async fn run_for(
        &self,
        limit: Duration,
        db: &str,
        command: RawDocumentBuf,
    ) -> mongodb::error::Result<Document> {
        let db = self.client.database(db);
        let running = self.requests.begin();
        // The command runs in its own task, so that it is counted until its answer arrives, even if the
        // caller stops waiting. A late drop or create would undo the next restore.
        let task = tokio::spawn(async move {
            let answer = commands::bounded(limit, db.run_raw_command(command).into_future()).await;
            drop(running);
            answer
        });
        task.await.unwrap_or_else(|e| Err(std::io::Error::other(e).into()))
    }

    /// Waits until every command is answered, or for `limit`. Returns false if an answer is missing.
    pub(crate) async fn settle(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.requests.none()).await.is_ok()
    }

    /// Sends a command that the server may have carried out already when it is sent again. The caller handles
    /// that case.
    pub(super) async fn insist(&self, db: &str, command: impl Fn() -> RawDocumentBuf) -> SentCommand {
        self.insist_for(STALL, db, command).await
    }

    /// The same for a command that changes data; counts it.
    pub(super) async fn change(&self, db: &str, command: impl Fn() -> RawDocumentBuf) -> SentCommand {
        // Counted before it is sent: the server may carry it out even if the caller stops waiting.
        self.changes.fetch_add(1, SeqCst);
        let sent = self.insist(db, command).await;
        if !sent.repeated && sent.answer.as_ref().is_err_and(|e| errors::classify(e) == Class::Unauthorized) {
            self.changes.fetch_sub(1, SeqCst);
        }
        sent
    }

    /// Returns true if this connection changed nothing: every change was refused.
    pub(crate) fn is_untouched(&self) -> bool {
        self.changes.load(SeqCst) == 0
    }

    /// Runs a query, and repeats it while its failure may pass. A query changes nothing.
    pub(super) async fn ask<T, F: Future<Output = mongodb::error::Result<T>>>(
        &self,
        question: impl Fn() -> F,
    ) -> mongodb::error::Result<T> {
        let passing = |e: &mongodb::error::Error| errors::passing(e).filter(|_| self.access.passes());
        self.patience.retry(&self.service(), passing, question).await
    }

    /// [`RestoreTarget::insist`] with a limit for each answer.
    pub(super) async fn insist_for(
        &self,
        limit: Duration,
        db: &str,
        command: impl Fn() -> RawDocumentBuf,
    ) -> SentCommand {
        let (mut repeated, mut waiting) = (false, self.patience.start(self.service()));
        loop {
            let answer = self.run_for(limit, db, command()).await;
            match answer.as_ref().err().and_then(errors::passing).filter(|_| self.access.passes()) {
                Some(why) if waiting.pause(&why).await => repeated = true,
                _ => {
                    if answer.is_ok() {
                        waiting.answered();
                    }
                    return SentCommand { answer, repeated };
                }
            }
        }
    }
}

/// The number of commands without an answer. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingCommands(Arc<watch::Sender<usize>>);

/// Counts as one command until it is dropped.
#[derive(Debug)]
struct PendingCommand(PendingCommands);

impl PendingCommands {
    fn begin(&self) -> PendingCommand {
        self.0.send_modify(|count| *count += 1);
        PendingCommand(self.clone())
    }

    async fn none(&self) {
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for PendingCommand {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn none_waits_for_every_running_command() {
        let requests = PendingCommands::default();
        requests.none().await;
        let (first, second) = (requests.begin(), requests.begin());
        drop(first);
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, requests.none()).await.is_err());
        drop(second);
        requests.none().await;
    }
}
