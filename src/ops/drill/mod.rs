//! `verify --drill`: restore a backup into a scratch server and hold what is there against the manifest.
//!
//! The scratch is a throw-away mongod of its own, or databases of random names on a server that is there
//! ([`loan`]). Into it goes the whole backup, by the same code as a restore's; then everything is read back
//! ([`read`]) and compared ([`check`], [`compare`]). What the drill made is gone afterwards, however it ended.

mod check;
mod compare;
mod loan;
mod read;
mod scratch;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::Result;
use crate::base::progress::Meter;
use crate::base::retry::Patience;
use crate::base::secret::Secret;
use crate::catalog::verdict::Drill;
use crate::model::manifest::Manifest;
use crate::restore_target::throwaway;
use crate::restore_target::throwaway::{Program, Throwaway};
use crate::store::Store;

use loan::Loan;

/// Where a drill restores to.
#[derive(Debug, Clone)]
pub enum Ground {
    /// A mongod that it starts.
    Mongod {
        /// The program.
        program: Program,
        /// Where its data lies meanwhile.
        within: PathBuf,
    },
    /// A server that is there, under names of its own.
    Server(Secret),
}

/// What a drill works with.
#[derive(Debug)]
pub struct Resources<'a> {
    /// Where the backup is.
    pub store: Arc<dyn Store>,
    /// How far it is.
    pub meter: &'a Meter,
    /// Ends it early.
    pub cancel: &'a Cancel,
    /// The clock of the run.
    pub clock: Clock,
    /// A few random letters and digits, of no other drill.
    pub token: String,
    /// This machine.
    pub host: String,
    /// How long a server is waited for when it is down.
    pub patience: Patience,
}

/// Of many findings so many are kept: the first tell what happened.
const KEPT: usize = 20;
/// So much stays free of the disk: a server builds no index with less than 500 MB.
const SPARE: u64 = 600 << 20;

/// Restores the backup of `manifest`, which should have been verified, and compares.
///
/// # Errors
/// If the target fails: that says nothing about the backup. What differs is a finding.
pub async fn drill(resources: &Resources<'_>, manifest: &Manifest, ground: &Ground) -> Result<Drill> {
    match ground {
        Ground::Mongod { program, within } => in_mongod(resources, manifest, program, within).await,
        Ground::Server(uri) => on_server(resources, manifest, uri).await,
    }
}

async fn in_mongod(
    resources: &Resources<'_>,
    manifest: &Manifest,
    program: &Program,
    within: &std::path::Path,
) -> Result<Drill> {
    throwaway::sweep(within).iter().for_each(|line| log::warn!("{line}"));
    let slice = manifest.consistency.oplog.as_ref().map_or(0, |slice| slice.raw_bytes);
    scratch::room(within, manifest.totals.raw_bytes + slice + SPARE)?;
    let starting = Throwaway::start(program, within, &resources.token);
    let mut mongod = resources.cancel.or(starting).await?;
    log::info!("drilling {} in a throw-away mongod ({})", manifest.id, program.path.display());
    let scratch = scratch::Scratch { uri: mongod.uri(), names: None, target: OnceLock::new() };
    let outcome = resources.cancel.or(scratch.drill(resources, manifest)).await;
    outcome.map_err(|error| match mongod.ended() {
        None => error,
        Some(ended) => match ended.next_step() {
            Some(_) => ended,
            None => ended.hint(format!("Look for room on the disk of {} and in memory", within.display())),
        }
        .caused_by(error.chain()),
    })
}

async fn on_server(resources: &Resources<'_>, manifest: &Manifest, uri: &Secret) -> Result<Drill> {
    let (loan, warnings) = resources.cancel.or(Loan::begin(resources, manifest, uri)).await?;
    log::info!("drilling {} on {}, in databases {}…", manifest.id, loan.address(), loan.prefix());
    let scratch = scratch::Scratch { uri: uri.clone(), names: Some(loan.names()), target: OnceLock::new() };
    let outcome = match resources.cancel.or(loan.mark()).await {
        Ok(()) => resources.cancel.or(scratch.drill(resources, manifest)).await,
        Err(error) => Err(error),
    };
    if let Some(target) = scratch.target.get().filter(|_| outcome.is_err()) {
        target.end_trials().await;
    }
    let left = loan.end(resources.cancel).await;
    let mut drill = outcome.map_err(|error| match &left {
        Some(left) => {
            let step = error.next_step().map(|step| format!("{step}. ")).unwrap_or_default();
            error.hint(format!("{step}Also, {left}"))
        }
        None => error,
    })?;
    drill.notes.extend(warnings);
    drill.notes.extend(left);
    Ok(drill)
}
