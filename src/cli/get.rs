//! `uzima-backup get`.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write};

use bson::RawDocument;

use super::args::{DocumentFormat, GetArgs};
use super::job_meant;
use super::output::{self, Output};
use super::restore::{self, reading};
use crate::base::error::{Error, Kind, Result};
use crate::base::escape;
use crate::base::exit::Exit;
use crate::base::units::several;
use crate::catalog::choose::{SkippedBackup, WhichBackup};
use crate::dumpformat::extjson;
use crate::dumpformat::query::Query;
use crate::notify::run::Run;
use crate::ops::places::{Places, Purpose};
use crate::ops::restore::StoredBackup;
use crate::ops::restore::get::{self, GetOptions, TakeDocuments};

pub async fn run(args: &GetArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let cancel = run.cancel;
    let options = options(args)?;
    if args.format == DocumentFormat::Bson && io::stdout().is_terminal() {
        return Err(Error::usage("BSON is not printed on a terminal")
            .hint("Redirect standard output to a file, or leave --format out"));
    }
    // Nothing is stored, so the usual error of a signal says nothing about it.
    let interrupted = |error: Error| match error.kind() {
        Kind::Signal(_) => cancel.error_with("the output is incomplete").unwrap_or(error),
        _ => error,
    };
    let backup = cancel.or(open(args, run)).await.map_err(interrupted)?;
    let take = Box::new(Printer::new(args.format));
    let report = cancel.or(get::get(backup, options, take)).await.map_err(interrupted)?;
    if report.refused {
        // The reader of a pipe is gone, as `head` after its last line.
        return Ok(Exit::Done);
    }
    if !output.quiet {
        report.notes.iter().for_each(|note| output::print_line(&format!("note: {note}")));
        if report.documents == 0 {
            output::print_line(&format!("{} of {} match", several(0, "document"), args.namespace));
        }
    }
    report.problems.iter().for_each(|problem| output::needs_look(problem));
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::NeedsLook })
}

fn options(args: &GetArgs) -> Result<GetOptions> {
    let query = match (args.id.as_deref(), args.filter.as_deref()) {
        (Some(id), _) => Some(Query::of_id(id)?),
        (None, filter) => filter.map(Query::parse).transpose()?,
    };
    Ok(GetOptions {
        namespace: args.namespace.clone(),
        query,
        by_id: args.id.is_some(),
        limit: args.limit.map(|limit| limit.get() as u64),
    })
}

async fn open(args: &GetArgs, run: &Run<'_>) -> Result<StoredBackup> {
    let reading = reading(args.allow_unsigned.as_ref(), run)?;
    let places = Places::open_existing(run.config).await?;
    let allowed = args.allow_unsigned.clone().filter(|_| args.which == WhichBackup::Latest);
    let which = allowed.map_or_else(|| args.which.clone(), WhichBackup::Id);
    let job = job_meant(&which, args.backups.job.as_deref(), run.config);
    let found = places.choose_backup(&which, job, &reading, Purpose::Restore).await?;
    for SkippedBackup { id, reason } in &found.skipped {
        log::warn!("the newer backup {id} is skipped: {reason}");
    }
    Ok(restore::open(&places, found, run).await?.0)
}

/// Prints documents on standard output.
struct Printer {
    format: DocumentFormat,
    out: BufWriter<Stdout>,
    text: String,
}

impl Printer {
    fn new(format: DocumentFormat) -> Printer {
        Printer { format, out: BufWriter::with_capacity(1 << 16, io::stdout()), text: String::new() }
    }
}

impl TakeDocuments for Printer {
    fn take(&mut self, document: &RawDocument) -> Result<bool> {
        self.text.clear();
        let written = match self.format {
            DocumentFormat::Bson => return wants_more(self.out.write_all(document.as_bytes())),
            DocumentFormat::Json => extjson::write_document(&mut self.text, document),
            DocumentFormat::Relaxed => extjson::write_relaxed(&mut self.text, document),
        };
        written
            .map_err(|e| Error::new(Kind::Mismatch, "a document of the backup is damaged").caused_by(e))?;
        self.text.push('\n');
        // A terminal obeys control characters, which JSON allows in texts.
        wants_more(self.out.write_all(escape::json(&self.text).as_bytes()))
    }

    fn flush(&mut self) -> Result<bool> {
        wants_more(self.out.flush())
    }
}

/// Returns false if the reader of the output is gone.
fn wants_more(written: io::Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Error::failed("cannot write to standard output")
            .caused_by(e)
            .hint("Find out whether the disk is full; the output is incomplete")),
    }
}
