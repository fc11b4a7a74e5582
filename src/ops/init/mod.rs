//! `init`: a configuration file for a machine that has none, from what is set and what is found.
//!
//! The file is the annotated example ([`EXAMPLE`]) with the settings of this moment's flags and environment
//! switched on. Secrets stay out of it, unless they are asked for: a connection string goes in without its
//! password, so that a run at night that lacks the secret fails at the right server, and never backs up
//! another one. What a person has to add for cron or systemd is in [`schedule`].

mod chosen;
mod found;
mod render;
pub mod schedule;
pub mod standing;
mod write;

use std::path::PathBuf;

use chrono::{DateTime, Utc};

pub use self::chosen::LeftOut;
use crate::base::error::Result;
use crate::config::Config;
use crate::config::Env;

/// The example that ships with the tool: every setting with its explanation.
pub const EXAMPLE: &str = include_str!("../../../examples/config.toml");

/// What is written, and how.
#[derive(Debug)]
pub struct Options {
    /// The configuration file, as an absolute path.
    pub file: PathBuf,
    /// A file that is there already is replaced.
    pub force: bool,
    /// Secrets of the environment go into the file as well.
    pub with_secrets: bool,
}

/// What was written.
#[derive(Debug)]
pub struct Report {
    /// Its permissions.
    pub mode: u32,
    /// The copy of the file that was replaced.
    pub kept: Option<PathBuf>,
    /// The settings in it.
    pub settings: Vec<&'static str>,
    /// The secrets that are set, but not in it.
    pub left_out: Vec<LeftOut>,
    /// What was found on this machine, a line each.
    pub found: Vec<String>,
}

/// Writes the file. `config` are flags and environment, checked; `env` is the environment; `now` this
/// machine's clock.
///
/// # Errors
/// When there is a file already, or it cannot be written.
pub async fn init(config: &Config, env: Env<'_>, options: &Options, now: DateTime<Utc>) -> Result<Report> {
    // What cannot be written is told before anything is looked for.
    write::replaceable(&options.file, options.force)?;
    let mut chosen = chosen::chosen(config, env, options);
    let found = found::look(config, env).await?;
    if let Some(path) = &found.mongodump_path {
        chosen.add_path("mongodump_path", path);
    }
    let text = render::render(EXAMPLE, &options.file, &chosen, &found.lines, now);
    let written = write::write(&options.file, &text, options.force)?;
    let settings = chosen.values.keys().copied().collect();
    Ok(Report {
        mode: written.mode,
        kept: written.kept,
        settings,
        left_out: chosen.left_out,
        found: found.lines,
    })
}
