//! `restore` without an id on a terminal: it asks what the arguments do not say.
//!
//! The answers become [`RestoreArgs`], as if they had been on the command line, and go the way of every restore from there: plan,
//! confirmation, restore. So the command line that is shown before the confirmation does the same. Until the confirmation, nothing is
//! changed.

mod guide;
mod labels;
mod person;
mod questions;

use std::sync::Arc;

use indicatif::MultiProgress;

use super::super::args::{Common, RestoreArgs};
use super::super::ask;
use super::super::output::Output;
use super::command::command_line;
use super::{carry_out, options, unchanged};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::heap::on_heap;
use crate::config::Config;
use crate::notify::run::Run;
use guide::Guide;
use person::{AtTerminal, Person};

/// Returns true if no argument says what is restored.
pub(super) fn is_wanted(args: &RestoreArgs) -> bool {
    let RestoreArgs { which, from, at, before, allow_unsigned, .. } = args;
    which.is_none() && from.is_none() && at.is_none() && before.is_none() && allow_unsigned.is_none()
}

/// Asks, and restores.
///
/// # Errors
/// Returns a usage error if there is no person to ask, and the errors of a restore.
pub(super) async fn run(
    args: &RestoreArgs,
    common: &Common,
    run: &Run<'_>,
    output: &Output,
    bars: &MultiProgress,
) -> Result<Exit> {
    if args.yes || !ask::at_terminal() {
        return Err(Error::usage("the following required arguments were not provided: <latest|ID>")
            .hint("`uzima-backup restore --help` shows the usage"));
    }
    options(args)?;
    if args.to_uri.is_some() {
        run.config.restore_target.as_ref()?;
    }
    let begun = run.cancel.or(Guide::begin(AtTerminal::new(run.cancel), args, common, run)).await;
    let mut guide = begun.map_err(|error| unchanged(error, run.cancel))?;
    let prepared = on_heap(|| guide.ask()).await.map_err(|error| unchanged(error, run.cancel))?;
    let line = command_line(&guide.args, common, guide.person.columns());
    let of_target = match guide.args.to_uri.is_none() && run.config.layers.is_set("restore_uri") {
        true => ", with the same RESTORE_URI",
        false => "",
    };
    let words = format!("\nThis command does the same{of_target}:\n\n{line}\n\n");
    if guide.args.dry_run {
        guide.print(&words);
    }
    let config = guide.config();
    let run = with_config(run, &config);
    on_heap(|| carry_out(prepared, &guide.args, &words, &run, output, bars)).await
}

fn with_config<'a>(run: &'a Run<'_>, config: &'a Config) -> Run<'a> {
    Run {
        config,
        cancel: run.cancel,
        log: Arc::clone(&run.log),
        clock: run.clock,
        new_id: Arc::clone(&run.new_id),
    }
}
