//! `--from`: a dump that no manifest describes: mongodump's archive or directory, or an artifact of ours by its
//! path. Nothing is known of it in advance, so it is read twice: once to learn what it holds and whether it is
//! whole, and once to restore it.

mod oplog;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use self::oplog::{OPLOG, Oplog};
use super::files::{self, Part};
use super::offer::Offer;
use super::sinks::{Only, Survey};
use crate::artifact::archive::MAGIC;
use crate::artifact::codec::Codec;
use crate::artifact::demux::Demux;
use crate::artifact::writer::Tally;
use crate::error::{Error, Kind, Result};
use crate::ops::verify::region;
use crate::source::{Namespace, Sink};
use crate::target::batch;

/// A buffer that a tar's first header fits into.
const BUFFER: usize = 1 << 20;

/// What can be restored.
const ACCEPTED: &str = "--from takes mongodump's folder with one folder for each database in it, its archive (--archive), or a \
                        tar of the folder, with gzip, zstd or neither; of a backup's own folder the file that begins with \
                        dump.";

/// The dump.
#[derive(Debug)]
pub struct Dump {
    path: PathBuf,
    form: Form,
    /// What it holds.
    pub namespaces: Vec<Namespace>,
    tallies: Vec<Tally>,
    of_file: BTreeMap<(String, String), usize>,
    oplog: Option<Oplog>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Folder,
    Tar,
    Archive,
}

impl Dump {
    /// Reads a dump to its end.
    ///
    /// # Errors
    /// Of the kind `Mismatch` if it is damaged or incomplete.
    pub fn open(path: &Path) -> Result<Dump> {
        let path = &inside(path);
        let form = form(path)?;
        let mut dump = Dump {
            path: path.into(),
            form,
            namespaces: Vec::new(),
            tallies: Vec::new(),
            of_file: BTreeMap::new(),
            oplog: None,
        };
        match form {
            Form::Archive => {
                let mut survey = Survey::default();
                dump.read(&mut survey)?;
                (dump.namespaces, dump.tallies) = (survey.namespaces, survey.tallies);
                dump.oplog = dump.namespaces.iter().position(Namespace::is_oplog).map(Oplog::Place);
            }
            Form::Folder | Form::Tar => dump.survey()?,
        }
        if dump.namespaces.iter().all(Namespace::is_oplog) {
            return Err(Error::failed(format!("{} holds no collection", path.display())).hint(ACCEPTED));
        }
        Ok(dump)
    }

    /// What it holds.
    pub fn offers(&self) -> Vec<Offer> {
        let both = self.namespaces.iter().zip(&self.tallies);
        let offer = |(namespace, tally): (&Namespace, &Tally)| Offer {
            db: namespace.db.clone(),
            collection: namespace.collection.clone(),
            kind: namespace.kind,
            documents: tally.documents,
            raw_bytes: tally.raw_bytes,
            stored_bytes: tally.raw_bytes,
            sum: tally.sum,
        };
        both.map(offer).collect()
    }

    /// Where it is.
    pub fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Reads it once more. The places that `sink` hears of are those in [`namespaces`](Dump::namespaces);
    /// the documents of one may come in turns with those of others.
    pub fn read(&self, sink: &mut dyn Sink) -> Result<()> {
        match self.form {
            Form::Archive => {
                let demux = Demux::new(BufReader::with_capacity(BUFFER, raw(&self.path)?)).mixed();
                demux.run(&|_| true, sink).map(|_| ()).map_err(|e| match e.kind() {
                    Kind::Aftermath => e,
                    _ => e.of_kind(Kind::Mismatch),
                })
            }
            Form::Folder | Form::Tar => self.files(&mut |(db, stem, part), file| {
                let at = self.of_file.get(&(db.clone(), stem.clone()));
                let (Some(at), Part::Documents) = (at, part) else { return Ok(()) };
                sink.begin(*at)?;
                documents(db, stem, file, &mut |document| sink.document(document))?;
                sink.end()
            }),
        }
    }

    /// Shows every document of a namespace in order.
    pub fn scan(&self, at: usize, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.read(&mut Only::new(at, each))
    }

    fn files(&self, take: &mut dyn FnMut(&files::Name, &mut dyn Read) -> Result<()>) -> Result<()> {
        match self.form {
            Form::Folder => files::in_folder(&self.path, take),
            _ => files::in_tar(raw(&self.path)?, take),
        }
    }

    fn survey(&mut self) -> Result<()> {
        let (mut texts, mut tallies, mut oplogs) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        self.files(&mut |(db, stem, part), file| {
            if stem == OPLOG && *part == Part::Documents && (db.is_empty() || self.form == Form::Tar) {
                oplogs.insert(db.clone());
            }
            let key = (db.clone(), stem.clone());
            match part {
                Part::Metadata => {
                    let mut text = String::new();
                    file.read_to_string(&mut text).map_err(|e| {
                        Error::new(Kind::Mismatch, format!("{db}/{stem}.metadata.json is damaged"))
                            .caused_by(e)
                    })?;
                    texts.insert(key, text);
                }
                // Its entries are read when it is replayed.
                Part::Documents if db.is_empty() => {}
                Part::Documents => {
                    tallies.insert(key, documents(db, stem, file, &mut |_| Ok(()))?);
                }
            }
            Ok(())
        })?;
        self.oplog = Oplog::find(
            oplogs,
            || tallies.keys().chain(texts.keys()),
            |db| texts.contains_key(&(db.to_string(), OPLOG.to_string())),
        );
        if let Some(Oplog::Folder(db)) = &self.oplog {
            tallies.remove(&(db.clone(), OPLOG.to_string()));
        }
        let names: Vec<_> = tallies.keys().cloned().collect();
        let found = files::namespaces(&texts, &names)?;
        self.tallies = vec![Tally::default(); found.all.len()];
        for (key, tally) in tallies {
            region::add(&mut self.tallies[found.of_file[&key]], &tally);
        }
        (self.namespaces, self.of_file) = (found.all, found.of_file);
        Ok(())
    }
}

/// Shows the documents of a file.
fn documents(
    db: &str,
    stem: &str,
    file: &mut dyn Read,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Tally> {
    let mut failed = None;
    let read = region::documents(file, &mut |run| {
        let documents = batch::split(run).unwrap_or_default();
        for document in documents {
            if failed.is_none() {
                failed = each(document).err();
            }
        }
    });
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Ok((tally, _))) => Ok(tally),
        (None, Err(what)) => Err(Error::new(Kind::Mismatch, format!("{db}/{stem}.bson is damaged: {what}"))),
    }
}

/// A file's bytes without its compression, which its first bytes tell.
fn raw(path: &Path) -> Result<Box<dyn Read>> {
    let cannot = |e| Error::failed(format!("cannot read {}", path.display())).caused_by(e).hint(ACCEPTED);
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(cannot)?);
    let codec = match file.fill_buf().map_err(cannot)? {
        [0x1f, 0x8b, ..] => Codec::Gzip { level: 1 },
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Codec::Zstd { level: 1 },
        _ => return Ok(Box::new(file)),
    };
    Ok(codec.stream(file))
}

/// The folder of the dump, where a tar of ours was unpacked beside RECOVERY.txt.
fn inside(path: &Path) -> PathBuf {
    let dump = path.join("dump");
    let unpacked = dump.is_dir()
        && (path.join("RECOVERY.txt").is_file() || dump.join("prelude.json").is_file())
        && !path.join("prelude.json").is_file();
    if unpacked { dump } else { path.into() }
}

fn form(path: &Path) -> Result<Form> {
    if path.is_dir() {
        return Ok(Form::Folder);
    }
    let mut start = Vec::new();
    raw(path)?.take(512).read_to_end(&mut start).map_err(|e| {
        Error::new(Kind::Mismatch, format!("{} cannot be decompressed", path.display())).caused_by(e)
    })?;
    if start.starts_with(&MAGIC.to_le_bytes()) {
        Ok(Form::Archive)
    } else if start.get(257..262) == Some(b"ustar") {
        Ok(Form::Tar)
    } else {
        Err(Error::failed(format!(
            "{} is neither an archive of mongodump nor a tar of its folder",
            path.display()
        ))
        .hint(ACCEPTED))
    }
}
