//! Commands that are sent more than once: one lost connection must not cost the restore.

use std::time::Duration;

use bson::{Document, RawDocumentBuf};

use super::Target;
use crate::source::errors::{self, Class};
use crate::source::patience;

/// How often a command is sent again.
const SENT_AGAIN: u32 = 4;

impl Target {
    /// The answer to a command that may arrive more than once, and whether it may have.
    pub(super) async fn run_again(
        &self,
        doing: &str,
        db: &str,
        command: &(dyn Fn() -> RawDocumentBuf + Sync),
    ) -> mongodb::error::Result<(Document, bool)> {
        let mut again = 0;
        loop {
            match self.run(db, command()).await {
                Err(e)
                    if again < SENT_AGAIN
                        && errors::classify(&e) == Class::Interrupted
                        && !patience::waited(&e) =>
                {
                    again += 1;
                    log::info!("{doing} once more after: {}", errors::tidy(&e));
                    tokio::time::sleep(Duration::from_millis(200 << again)).await;
                }
                answer => return answer.map(|answer| (answer, again > 0)),
            }
        }
    }
}
