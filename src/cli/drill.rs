//! The drill of `verify`: its target, its progress and its result as text.

use std::sync::Arc;

use super::logging::Log;
use super::output::Output;
use super::progress::Display;
use super::units;
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::escape::{self, push_line};
use crate::base::progress::Meter;
use crate::catalog::verdict::Drill;
use crate::config::Config;
use crate::model::manifest::Manifest;
use crate::ops::drill::{self, DrillResources, DrillTarget};
use crate::restore_target::throwaway::Program;
use crate::store::Store;

/// Returns the server that is configured for drills, or a mongod that the drill starts.
pub async fn target(config: &Config) -> Result<DrillTarget> {
    if let Some(uri) = config.drill_uri()? {
        return Ok(DrillTarget::Server(uri.clone()));
    }
    let search_path = config.machine.search_path.as_deref();
    let program = Program::find(config.mongod_path()?, search_path).await.map_err(|why| {
        Error::usage(format!("there is no server for the drill: {why}"))
            .hint("Install mongod, set MONGOD_PATH, or name a server for drills: --to-uri, DRILL_URI")
    })?;
    Ok(DrillTarget::Mongod { program, within: std::env::temp_dir() })
}

/// Drills a backup and shows the progress.
pub async fn run(
    store: Arc<dyn Store>,
    manifest: &Manifest,
    target: &DrillTarget,
    config: &Config,
    output: &Output,
    log: &Log,
    cancel: &Cancel,
) -> Result<Drill> {
    let meter = Arc::new(Meter::default());
    let display = Display::start(meter.clone(), output.interactive(), &log.bars);
    let token = format!("{:08x}", rand::random::<u32>());
    let patience = config.patience()?.clone();
    let (clock, host) = (Clock::start(), config.machine.host.clone());
    let resources = DrillResources { store, meter: &meter, cancel, clock, token, host, patience };
    let drilled = drill::drill(&resources, manifest, target).await;
    drop(display);
    drilled
}

/// Renders the result of a drill. The backup has this many `documents`.
pub fn text(drill: &Drill, documents: u64) -> String {
    let word = if drill.findings.is_empty() { "drilled" } else { "DIFFERS" };
    let took = |seconds: f64| units::duration(std::time::Duration::from_secs_f64(seconds.max(0.0)));
    let place = match drill.target.as_str() {
        "mongod" => "a throw-away mongod",
        _ => "an existing server, without users and roles",
    };
    let replayed = match drill.oplog_entries {
        0 => String::new(),
        entries => format!("; {} replayed", units::several(entries, "oplog entry")),
    };
    let mut text = format!(
        "{word:8} {}, {}, {} raw, restored into {place} ({})\n         recovery time {}, {}/s \
         (of that indexes {}){replayed}; compared in {}\n",
        units::several(drill.namespaces, "namespace"),
        units::several(drill.documents, "document"),
        units::bytes(drill.raw_bytes),
        escape::line(&drill.version),
        took(drill.recovery_seconds),
        units::bytes(drill.speed() as u64),
        took(drill.index_seconds),
        took(drill.compare_seconds),
    );
    let rest = documents.saturating_sub(drill.documents);
    if rest > 0 {
        let (rest, all) = (units::count(rest), units::count(documents));
        push_line(
            &mut text,
            &format!(
                "         not restored: users, roles and the server's internal collections, {rest} of the {all} documents"
            ),
        );
    }
    drill.findings.iter().for_each(|what| push_line(&mut text, &format!("         {what}")));
    drill.notes.iter().for_each(|what| push_line(&mut text, &format!("         needs a look: {what}")));
    text
}
