//! Commands that are sent again when the connection breaks: one lost connection must not cost the restore.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bson::{Document, RawDocumentBuf};

use super::{STALL, Target};
use crate::mongo::errors;
use crate::mongo::errors::Class;

/// How a command ended that may have been sent more than once.
pub struct Sent {
    /// The last answer.
    pub answer: mongodb::error::Result<Document>,
    /// Whether it was sent more than once: then the server may have carried it out before.
    pub again: bool,
}

impl Target {
    /// Sends a command of which the caller knows what it means when it was carried out already.
    pub(super) async fn insist(&self, db: &str, command: impl Fn() -> RawDocumentBuf) -> Sent {
        self.insist_for(STALL, db, command).await
    }

    /// Sends a command that changes something, in the same way.
    pub(super) async fn change(&self, db: &str, command: impl Fn() -> RawDocumentBuf) -> Sent {
        // What nobody waits for any more may be carried out all the same.
        self.changes.fetch_add(1, SeqCst);
        let sent = self.insist(db, command).await;
        if !sent.again && sent.answer.as_ref().is_err_and(|e| errors::classify(e) == Class::Unauthorized) {
            self.changes.fetch_sub(1, SeqCst);
        }
        sent
    }

    /// Whether nothing was dropped, created or inserted by this connection: each was refused.
    pub fn is_untouched(&self) -> bool {
        self.changes.load(SeqCst) == 0
    }

    /// The answer to a question, which is asked again while its failure may pass: a question changes nothing.
    pub(super) async fn ask<T, F: Future<Output = mongodb::error::Result<T>>>(
        &self,
        question: impl Fn() -> F,
    ) -> mongodb::error::Result<T> {
        let passing = |e: &mongodb::error::Error| errors::passing(e).filter(|_| self.access.passes());
        self.patience.retry(&self.service(), passing, question).await
    }

    /// [`Target::insist`] with this much time for each answer.
    pub(super) async fn insist_for(
        &self,
        limit: Duration,
        db: &str,
        command: impl Fn() -> RawDocumentBuf,
    ) -> Sent {
        let (mut again, mut waiting) = (false, self.patience.start(self.service()));
        loop {
            let answer = self.run_for(limit, db, command()).await;
            match answer.as_ref().err().and_then(errors::passing).filter(|_| self.access.passes()) {
                Some(why) if waiting.pause(&why).await => again = true,
                _ => {
                    if answer.is_ok() {
                        waiting.answered();
                    }
                    return Sent { answer, again };
                }
            }
        }
    }
}
