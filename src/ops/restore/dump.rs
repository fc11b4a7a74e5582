//! `--from`: a dump that no manifest describes: mongodump's archive or directory, or an artifact of ours by its
//! path. Nothing is known of it in advance, so it is read twice: once to learn what it holds and whether it is
//! whole, and once to restore it.

mod beside;
pub(crate) mod old;
mod oplog;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bson::RawDocumentBuf;

use self::old::OldIndexes;
use self::oplog::Oplog;
use super::files::{self, Files, Name, Part, Shown};
use super::offer::Offer;
use super::sinks::{Only, Survey};
use crate::artifact::read::segment;
use crate::base::bounds::{LARGEST_METADATA, Limited, Structure};
use crate::base::error::{Error, Kind, Result};
use crate::config::format::Codec;
use crate::dumpformat::Sink;
use crate::dumpformat::demux::Demux;
use crate::dumpformat::demux::MAGIC;
use crate::model::namespace::Namespace;
use crate::model::tally::Tally;
use crate::restore_target::batch;

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
    /// Notes about options and indexes that are not restored as they are in the dump.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Archive,
    /// A folder, or a tar of one.
    Files(Files),
}

impl Dump {
    /// Reads a dump to its end.
    ///
    /// # Errors
    /// Of the kind `Mismatch` if it is damaged or incomplete.
    pub fn open(path: &Path) -> Result<Dump> {
        let path = &inside(path);
        let mut dump = Dump {
            path: path.into(),
            form: Form::Archive,
            namespaces: Vec::new(),
            tallies: Vec::new(),
            of_file: BTreeMap::new(),
            oplog: None,
            notes: Vec::new(),
        };
        match shape(path)? {
            Shape::Archive => {
                let mut survey = Survey::default();
                dump.read(&mut survey)?;
                (dump.namespaces, dump.tallies) = (survey.namespaces, survey.tallies);
                survey.old.give(&mut dump.namespaces);
                dump.oplog = dump.namespaces.iter().position(Namespace::is_oplog).map(Oplog::Place);
            }
            Shape::Folder => dump.survey_folder()?,
            Shape::Tar => dump.survey_tar()?,
        }
        if dump.namespaces.iter().all(Namespace::is_oplog) {
            return Err(Error::failed(format!("{} holds no collection", path.display())).hint(ACCEPTED));
        }
        beside::exact(path, &mut dump.namespaces);
        dump.notes = dump.namespaces.iter_mut().flat_map(old::tidy).collect();
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
        let Form::Files(files) = &self.form else {
            let demux = Demux::new(BufReader::with_capacity(BUFFER, raw(&self.path)?)).mixed();
            return demux.run(&|_| true, sink).map(|_| ()).map_err(|e| match e.kind() {
                Kind::Aftermath => e,
                _ => e.of_kind(Kind::Mismatch),
            });
        };
        let place = |(db, stem, _): &Name| self.of_file.get(&(db.clone(), stem.clone())).copied();
        let wanted: Vec<_> =
            files.iter().filter(|(name, _)| name.2 == Part::Documents && place(name).is_some()).collect();
        files::read(&wanted, &|| raw(&self.path), &mut |name, file| {
            sink.begin(place(name).expect("only such files are read"))?;
            documents(name, file, &mut |document| sink.document(document))?;
            sink.end()
        })
    }

    /// Shows every document of a namespace in order.
    pub fn scan(&self, at: usize, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.read(&mut Only::new(at, each))
    }

    fn survey_folder(&mut self) -> Result<()> {
        let files = files::in_folder(&self.path)?;
        let mut contents = BTreeMap::new();
        let mut structure = Structure::default();
        files::read(&files.iter().collect::<Vec<_>>(), &|| raw(&self.path), &mut |name, file| {
            contents.insert(name.clone(), Content::read(name, file, &mut structure)?);
            Ok(())
        })?;
        self.put_together(files, contents)
    }

    fn survey_tar(&mut self) -> Result<()> {
        let mut early: BTreeMap<Shown, Result<Content>> = BTreeMap::new();
        let mut structure = Structure::default();
        let files = files::in_tar(raw(&self.path)?, &mut |shown, name, file| {
            // Damage counts only if no later member takes the place of this one.
            early.insert(shown, Content::read(name, file, &mut structure));
            Ok(())
        })?;
        let mut contents = BTreeMap::new();
        let mut linked = Vec::new();
        for (name, file) in &files {
            if *name == files::oplog() {
                contents.insert(name.clone(), Content::Unread);
                continue;
            }
            match file.shown(name).and_then(|shown| early.get_mut(&shown)) {
                None => linked.push((name, file)),
                Some(Ok(content)) => {
                    contents.insert(name.clone(), content.clone());
                }
                Some(failed) => {
                    let taken = Ok(Content::Unread);
                    std::mem::replace(failed, taken)?;
                }
            }
        }
        if !linked.is_empty() {
            files::read(&linked, &|| raw(&self.path), &mut |name, file| {
                contents.insert(name.clone(), Content::read(name, file, &mut structure)?);
                Ok(())
            })?;
        }
        self.put_together(files, contents)
    }

    fn put_together(&mut self, files: Files, contents: BTreeMap<Name, Content>) -> Result<()> {
        let (mut texts, mut tallies, mut old) = (BTreeMap::new(), BTreeMap::new(), OldIndexes::default());
        for ((db, stem, _), content) in contents {
            match content {
                Content::Text(_) if stem == old::STEM => {}
                Content::Text(text) => {
                    texts.insert((db, stem), text);
                }
                Content::Documents(tally) => {
                    tallies.insert((db, stem), tally);
                }
                Content::Indexes(indexes) => old.add(&db, indexes),
                Content::Unread => self.oplog = Some(Oplog::File),
            }
        }
        let names: Vec<_> = tallies.keys().cloned().collect();
        let mut found = files::namespaces(&texts, &names)?;
        old.give(&mut found.all);
        self.tallies = vec![Tally::default(); found.all.len()];
        for (key, tally) in tallies {
            self.tallies[found.of_file[&key]] += tally;
        }
        (self.namespaces, self.of_file, self.form) = (found.all, found.of_file, Form::Files(files));
        Ok(())
    }
}

/// What a file holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Metadata.
    Text(String),
    /// Documents, counted.
    Documents(Tally),
    /// Documents of `system.indexes`.
    Indexes(Vec<RawDocumentBuf>),
    /// The oplog, whose entries are read when it is replayed.
    Unread,
}

impl Content {
    pub(crate) fn read(name: &Name, file: &mut dyn Read, structure: &mut Structure) -> Result<Content> {
        let (db, stem, part) = name;
        if *name == files::oplog() {
            return Ok(Content::Unread);
        }
        if *part == Part::Metadata {
            let damaged =
                |e| Error::new(Kind::Mismatch, format!("{db}/{stem}.metadata.json is damaged")).caused_by(e);
            let mut text = String::new();
            Limited::new(file, LARGEST_METADATA, "it").read_to_string(&mut text).map_err(damaged)?;
            structure.keep(text.len()).map_err(damaged)?;
            return Ok(Content::Text(text));
        }
        if stem != old::STEM {
            return documents(name, file, &mut |_| Ok(())).map(Content::Documents);
        }
        let mut indexes = Vec::new();
        documents(name, file, &mut |document| {
            structure.keep(document.len()).map_err(|e| {
                Error::new(Kind::Mismatch, format!("{db}/{stem}.bson is damaged")).caused_by(e)
            })?;
            indexes.push(old::parse(db, document)?);
            Ok(())
        })?;
        Ok(Content::Indexes(indexes))
    }
}

/// Shows the documents of a file.
fn documents(
    (db, stem, _): &Name,
    file: &mut dyn Read,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Tally> {
    let mut failed = None;
    let read = segment::documents(file, None, &mut |run, _| {
        let documents = batch::split(&run).unwrap_or_default();
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

enum Shape {
    Folder,
    Tar,
    Archive,
}

fn shape(path: &Path) -> Result<Shape> {
    if path.is_dir() {
        return Ok(Shape::Folder);
    }
    let mut start = Vec::new();
    raw(path)?.take(512).read_to_end(&mut start).map_err(|e| {
        Error::new(Kind::Mismatch, format!("{} cannot be decompressed", path.display())).caused_by(e)
    })?;
    if start.starts_with(&MAGIC.to_le_bytes()) {
        Ok(Shape::Archive)
    } else if start.get(257..262) == Some(b"ustar") || start == [0; 512] {
        Ok(Shape::Tar)
    } else {
        Err(Error::failed(format!(
            "{} is neither an archive of mongodump nor a tar of its folder",
            path.display()
        ))
        .hint(ACCEPTED))
    }
}
