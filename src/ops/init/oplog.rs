//! What `init` finds out before it offers to store the oplog: whether the server has one, and how much is written to it.

use std::time::Duration;

use bson::rawdoc;
use schemars::JsonSchema;
use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::base::retry::Patience;
use crate::base::units;
use crate::config::JobSettings;
use crate::mongo::commands;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::source::oplog::tail::OplogState;
use crate::source::oplog::{self, OplogObstacle};

/// An oplog that covers fewer seconds does not show how much is written per day.
const SHORTEST: u32 = 3600;
const DAY: u64 = 24 * 3600;

/// A replica set whose oplog can be stored.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct OplogOffer {
    /// The name of the replica set.
    pub replica_set: String,
    /// The oplog that the server writes per day, in bytes, before compression. `None` if its oplog covers less than an hour,
    /// or if the user may not see its size.
    pub bytes_per_day: Option<u64>,
    /// For how many days the stored oplog is kept (`oplog_days`).
    pub days: u32,
    /// True if the schedule has the job.
    pub scheduled: bool,
}

impl OplogOffer {
    /// What the job gives and costs, in sentences.
    pub fn words(&self) -> [String; 2] {
        let days = units::several(self.days.into(), "day");
        let cost = match self.bytes_per_day {
            Some(bytes) => format!(
                "the set writes about {} of oplog a day, which is stored compressed and kept for {days}",
                units::bytes(bytes)
            ),
            None => format!("what the set writes is stored compressed and kept for {days}"),
        };
        [
            format!(
                "The replica set {} can be restored to any second, not only to the last night, if a job stores its oplog \
                 every 10 minutes.",
                self.replica_set
            ),
            format!("It costs a few requests to the server and the store each time, and space: {cost}."),
        ]
    }
}

/// Asks the server once whether its oplog can be stored. The inner error is the obstacle.
///
/// # Errors
/// Returns an error if the server does not answer.
pub async fn look(settings: &JobSettings) -> Result<Result<OplogOffer, OplogObstacle>> {
    let notes = Notes::default();
    let once = Patience::new(Duration::ZERO);
    let server = Server::connect(&settings.mongo_uri, &once, settings.stall, &notes).await?;
    let found = match oplog::obstacle(&server).await? {
        Some(obstacle) => Err(obstacle),
        None => Ok(OplogOffer {
            replica_set: server.hello.set_name.clone().unwrap_or_default(),
            bytes_per_day: bytes_per_day(&server).await,
            days: settings.oplog_days,
            scheduled: false,
        }),
    };
    server.close().await;
    Ok(found)
}

async fn bytes_per_day(server: &Server) -> Option<u64> {
    let window = OplogState::of(server).await.ok()?.window();
    let stats = server.command("local", rawdoc! {"collStats": "oplog.rs", "scale": 1}).await.ok()?;
    let size = commands::number(stats.get("size")?)?;
    per_day(size, window)
}

/// The bytes per day of an oplog of this size that covers `window` seconds.
fn per_day(size: u64, window: u32) -> Option<u64> {
    (window >= SHORTEST).then(|| size.saturating_mul(DAY) / u64::from(window))
}

/// The error of `--oplog` for a server whose oplog cannot be stored.
pub fn refused(obstacle: OplogObstacle) -> Error {
    Error::usage(format!("the job that stores the oplog cannot be added: {}", obstacle.why))
        .hint(format!("{}; or leave --oplog out", obstacle.hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_names_the_set_the_space_and_the_days() {
        let mut offer =
            OplogOffer { replica_set: "rs0".into(), bytes_per_day: None, days: 7, scheduled: false };
        let [gives, costs] = offer.words();
        assert!(gives.starts_with("The replica set rs0 can be restored to any second"), "{gives}");
        assert!(
            costs.ends_with("space: what the set writes is stored compressed and kept for 7 days."),
            "{costs}"
        );
        offer.bytes_per_day = per_day(1 << 30, 12 * 3600);
        let [_, costs] = offer.words();
        assert!(costs.contains("the set writes about 2.0 GiB of oplog a day, which is stored"), "{costs}");
        assert_eq!(per_day(1 << 30, 3599), None, "too short to judge by");
    }
}
