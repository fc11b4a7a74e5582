//! Measures restores of one large collection over the live one with `--drop` and with `--swap`, and how long a client that reads
//! the collection in a loop finds nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bson::{RawDocumentBuf, doc};
use mongodb::Client;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use uzima_testkit::mongod::Mongod;

use crate::cost::{Costs, Way, measure};
use crate::restores::OPLOG_MB;

/// The pause between two reads, which leaves the processor to the restore.
const PAUSE: Duration = Duration::from_millis(1);

/// What a client saw that read the collection in a loop.
#[derive(Default)]
struct Seen {
    reads: u64,
    /// The reads that found no document.
    empty: u64,
    /// The longest time from a read that found a document to the next one that did, if reads between them found nothing.
    missing: Duration,
    /// The duration of the slowest read.
    slowest: Duration,
}

/// Backs up `source`, stops it, and restores its orders over themselves `rounds` times each way, in turn.
pub fn compare(runtime: &Runtime, mut source: Mongod, rounds: u64) -> Result<()> {
    let kept = tempfile::tempdir()?;
    let way = |name, command: &str| {
        let dir = kept.path().display();
        let line = format!(
            "BACKUP_ENGINE=native BACKUP_FORMAT=tar.zst BACKUP_DIR={dir} \"$UZIMA\" {command} --quiet"
        );
        Way { name, line }
    };
    measure(&source, &way("backup", "backup"))?;
    source.stop()?;
    let orders = "restore latest --ns-include store.orders --yes";
    let first = way("first restore", orders);
    let ways = [
        way("uzima restore --drop", &format!("{orders} --drop")),
        way("uzima restore --swap", &format!("{orders} --swap")),
    ];
    let mut costs = Costs::default();
    let mut seen = [Seen::default(), Seen::default()];
    for _ in 0..rounds {
        for (way, seen) in ways.iter().zip(&mut seen) {
            let target = Mongod::builder().cache_gb(2.0).replica_set("rs").oplog_mb(OPLOG_MB);
            let target = target.start_blocking()?;
            measure(&target, &first)?;
            let client = runtime.block_on(target.client())?;
            let (stop, stopped) = oneshot::channel();
            let reader = runtime.spawn(read(client, stopped));
            let cost = measure(&target, way);
            let _ = stop.send(());
            *seen += runtime.block_on(reader)??;
            costs.add(way, cost?);
        }
    }
    println!("\n## The orders restored over themselves, while a client reads them");
    costs.print(&ways, rounds);
    println!(
        "\n| | reads | of which found nothing | longest time without a document, ms | slowest read, ms |"
    );
    println!("|---|---|---|---|---|");
    for (way, Seen { reads, empty, missing, slowest }) in ways.iter().zip(&seen) {
        let [missing, slowest] = [missing, slowest].map(Duration::as_millis);
        println!("| {} | {reads} | {empty} | {missing} | {slowest} |", way.name);
    }
    Ok(())
}

/// Reads a document of the orders again and again.
async fn read(client: Client, mut stopped: oneshot::Receiver<()>) -> Result<Seen> {
    let orders = client.database("store").collection::<RawDocumentBuf>("orders");
    let (mut seen, mut found, mut gone) = (Seen::default(), Instant::now(), false);
    while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        let began = Instant::now();
        let document = orders.find_one(doc! {}).await?;
        seen.reads += 1;
        seen.slowest = seen.slowest.max(began.elapsed());
        if document.is_some() {
            if gone {
                seen.missing = seen.missing.max(found.elapsed());
            }
            (found, gone) = (Instant::now(), false);
        } else {
            (seen.empty, gone) = (seen.empty + 1, true);
        }
        tokio::time::sleep(PAUSE).await;
    }
    ensure!(seen.reads > 0 && !gone, "the client did not read, or found nothing at the end");
    Ok(seen)
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Seen) {
        self.reads += other.reads;
        self.empty += other.empty;
        self.missing = self.missing.max(other.missing);
        self.slowest = self.slowest.max(other.slowest);
    }
}
