//! `--from`: a dump that no manifest describes: mongodump's archive or folder, or the path of an artifact of this tool.
//! It is read twice: once to learn its content and to check that it is whole, and once to restore it.

pub(crate) mod files;
pub(crate) mod legacy_dumps;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bson::RawDocumentBuf;
use flate2::read::MultiGzDecoder;

use super::namespaces::BackupNamespace;
use crate::artifact::age_header;
use crate::artifact::read::segment;
use crate::base::bounds::{LARGEST_METADATA, Limited, Structure};
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::quoted;
use crate::config::choices::Codec;
use crate::dumpformat::demux::{Demux, MAGIC};
use crate::dumpformat::{Sink, metadata};
use crate::model::index::{self, Index};
use crate::model::namespace::{Namespace, Type};
use crate::model::tally::Tally;
use crate::restore_target::insert;
use files::{FilePart, Files, MemberKey, PartName};
use legacy_dumps::OldIndexes;

/// The size of a buffer that is large enough for a tar's first header.
const BUFFER: usize = 1 << 20;

/// The accepted forms of a dump.
const ACCEPTED: &str = "--from takes a mongodump folder, which has one folder for each database, a mongodump archive (--archive), \
                        or a tar of the folder, compressed with gzip or zstd or not at all; from a backup's own folder, \
                        name the file that begins with dump.";

/// A dump that was read to its end once.
#[derive(Debug)]
pub struct Dump {
    pub(super) path: PathBuf,
    /// The files of a folder, or of a tar of a folder; `None` for an archive.
    files: Option<Files>,
    pub namespaces: Vec<Namespace>,
    tallies: Vec<Tally>,
    /// Positions in `namespaces`, by database and the name of the file without suffix.
    of_file: BTreeMap<(String, String), usize>,
    /// Notes about options and indexes that are not restored as they are in the dump.
    pub notes: Vec<String>,
}

impl Dump {
    /// Reads a dump to its end.
    ///
    /// # Errors
    /// Returns an error of the kind `Mismatch` if it is damaged or incomplete.
    pub fn open(path: &Path) -> Result<Dump> {
        let path = &inside(path);
        let mut dump = Dump {
            path: path.into(),
            files: None,
            namespaces: Vec::new(),
            tallies: Vec::new(),
            of_file: BTreeMap::new(),
            notes: Vec::new(),
        };
        let (mut early, mut structure) = (BTreeMap::new(), Structure::default());
        match shape(path)? {
            PathKind::Archive => {
                let mut survey = ArchiveSurvey::default();
                dump.read(&mut survey)?;
                (dump.namespaces, dump.tallies) = (survey.namespaces, survey.tallies);
                survey.old.give(&mut dump.namespaces);
            }
            PathKind::Folder => dump.survey(files::in_folder(path)?, early, structure)?,
            PathKind::Tar => {
                let files = files::in_tar(raw(path)?, &mut |key, name, file| {
                    // Damage counts only if no later member replaces this one.
                    early.insert(key, Content::read(name, file, &mut structure));
                    Ok(())
                })?;
                dump.survey(files, early, structure)?;
            }
        }
        if dump.namespaces.iter().all(Namespace::is_oplog) {
            return Err(Error::failed(format!("{} contains no collection", path.display())).hint(ACCEPTED));
        }
        use_index_object(path, &mut dump.namespaces);
        dump.notes = dump.namespaces.iter_mut().flat_map(legacy_dumps::tidy).collect();
        Ok(dump)
    }

    pub(super) fn contents(&self) -> Vec<BackupNamespace> {
        let source = |(namespace, tally): (&Namespace, &Tally)| BackupNamespace {
            db: namespace.db.clone(),
            collection: namespace.collection.clone(),
            kind: namespace.kind,
            documents: tally.documents,
            raw_bytes: tally.raw_bytes,
            stored_bytes: tally.raw_bytes,
            sum: tally.sum,
        };
        self.namespaces.iter().zip(&self.tallies).map(source).collect()
    }

    /// Reads the dump again. The positions that `sink` gets are positions in
    /// [`namespaces`](Dump::namespaces). The documents of several namespaces may be interleaved.
    pub(super) fn read(&self, sink: &mut dyn Sink) -> Result<()> {
        let Some(files) = &self.files else {
            let demux = Demux::new(BufReader::with_capacity(BUFFER, raw(&self.path)?)).mixed();
            return demux.run(&|_| true, sink).map(drop).map_err(|e| match e.kind() {
                Kind::Aftermath => e,
                _ => e.of_kind(Kind::Mismatch),
            });
        };
        let place = |(db, stem, _): &PartName| self.of_file.get(&(db.clone(), stem.clone())).copied();
        let wanted: Vec<_> =
            files.iter().filter(|(name, _)| name.2 == FilePart::Documents && place(name).is_some()).collect();
        files::read(&wanted, &|| raw(&self.path), &mut |name, file| {
            sink.begin(place(name).expect("only such files are read"))?;
            documents(name, file, &mut |document| sink.document(document))?;
            sink.end()
        })
    }

    pub(super) fn scan(&self, at: usize, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.read(&mut Only { wanted: at, open: false, each })
    }

    /// An archive has the oplog as a namespace, a folder has it as a file.
    fn oplog_in_archive(&self) -> Option<usize> {
        self.namespaces.iter().position(Namespace::is_oplog)
    }

    pub(super) fn has_oplog(&self) -> bool {
        let file = self.files.as_ref().is_some_and(|files| files.contains_key(&files::oplog()));
        file || self.oplog_in_archive().is_some()
    }

    pub(super) fn scan_oplog(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        match &self.files {
            None => self.oplog_in_archive().map_or(Ok(()), |at| self.scan(at, each)),
            Some(files) => {
                let found = files.get_key_value(&files::oplog());
                files::read(found.as_slice(), &|| raw(&self.path), &mut |_, file| entries(file, each))
            }
        }
    }

    /// Takes the content of files from `early`, reads the files that are not there, and assigns all files to
    /// namespaces.
    fn survey(
        &mut self,
        files: Files,
        mut early: BTreeMap<MemberKey, Result<Content>>,
        mut structure: Structure,
    ) -> Result<()> {
        let (mut contents, mut unread) = (BTreeMap::new(), Vec::new());
        for (name, file) in &files {
            match file.member_key(name) {
                Some(_) if *name == files::oplog() => {}
                Some(key) if early.contains_key(&key) => {
                    // Several hard links can lead to one member.
                    let content = early.remove(&key).expect("it is there")?;
                    early.insert(key, Ok(content.clone()));
                    contents.insert(name.clone(), content);
                }
                _ => unread.push((name, file)),
            }
        }
        if !unread.is_empty() {
            files::read(&unread, &|| raw(&self.path), &mut |name, file| {
                contents.insert(name.clone(), Content::read(name, file, &mut structure)?);
                Ok(())
            })?;
        }
        let (mut texts, mut tallies, mut old) = (BTreeMap::new(), BTreeMap::new(), OldIndexes::default());
        for ((db, stem, _), content) in contents {
            match content {
                Content::Text(_) if stem == legacy_dumps::STEM => {}
                Content::Text(text) => drop(texts.insert((db, stem), text)),
                Content::Documents(tally) => drop(tallies.insert((db, stem), tally)),
                Content::Indexes(indexes) => old.add(&db, indexes),
                Content::Unread => {}
            }
        }
        let names: Vec<_> = tallies.keys().cloned().collect();
        let mut found = files::namespaces(&texts, &names)?;
        old.give(&mut found.all);
        self.tallies = vec![Tally::default(); found.all.len()];
        for (key, tally) in tallies {
            self.tallies[found.of_file[&key]] += tally;
        }
        (self.namespaces, self.of_file, self.files) = (found.all, found.of_file, Some(files));
        Ok(())
    }
}

/// The content of a dump's file.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Text(String),
    /// The counted documents.
    Documents(Tally),
    Indexes(Vec<RawDocumentBuf>),
    /// The oplog, whose entries are read by the replay.
    Unread,
}

impl Content {
    pub(crate) fn read(name: &PartName, file: &mut dyn Read, structure: &mut Structure) -> Result<Content> {
        let (db, stem, part) = name;
        if *name == files::oplog() {
            return Ok(Content::Unread);
        }
        let suffix = if *part == FilePart::Metadata { "metadata.json" } else { "bson" };
        let damaged = |e| Error::new(Kind::Mismatch, format!("{db}/{stem}.{suffix} is damaged")).caused_by(e);
        if *part == FilePart::Metadata {
            let mut text = String::new();
            Limited::new(file, LARGEST_METADATA, "it").read_to_string(&mut text).map_err(damaged)?;
            structure.keep(text.len()).map_err(damaged)?;
            return Ok(Content::Text(text));
        }
        if stem != legacy_dumps::STEM {
            return documents(name, file, &mut |_| Ok(())).map(Content::Documents);
        }
        let mut indexes = Vec::new();
        documents(name, file, &mut |document| {
            structure.keep(document.len()).map_err(damaged)?;
            indexes.push(legacy_dumps::parse(db, document)?);
            Ok(())
        })?;
        Ok(Content::Indexes(indexes))
    }
}

/// Passes the documents of a file to `each`.
fn documents(
    (db, stem, _): &PartName,
    file: &mut dyn Read,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Tally> {
    let mut failed = None;
    let read = segment::documents(file, u64::MAX, None, &mut |run, _| {
        let documents = insert::split(&run).unwrap_or_default();
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

/// Opens a file, and decompresses it if its first bytes show a compression.
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

/// The folder of the dump: `dump` in the folder of RECOVERY.txt, if a tar of this tool was unpacked there.
fn inside(path: &Path) -> PathBuf {
    let dump = path.join("dump");
    let unpacked = dump.is_dir()
        && (path.join("RECOVERY.txt").is_file() || dump.join("prelude.json").is_file())
        && !path.join("prelude.json").is_file();
    if unpacked { dump } else { path.into() }
}

enum PathKind {
    Folder,
    Tar,
    Archive,
}

fn shape(path: &Path) -> Result<PathKind> {
    if path.is_dir() {
        return Ok(PathKind::Folder);
    }
    let mut start = Vec::new();
    raw(path)?.take(512).read_to_end(&mut start).map_err(|e| {
        Error::new(Kind::Mismatch, format!("{} cannot be decompressed", path.display())).caused_by(e)
    })?;
    if start.starts_with(age_header::MAGIC) {
        let what = format!("{} is encrypted with age", path.display());
        Err(Error::new(Kind::Key, what).hint(format!(
            "Decrypt it to another file: `age -d -i KEYFILE -o FILE {}`, and name that file with --from",
            quoted(&path.display().to_string())
        )))
    } else if start.starts_with(&MAGIC.to_le_bytes()) {
        Ok(PathKind::Archive)
    } else if start.get(257..262) == Some(b"ustar") || start == [0; 512] {
        Ok(PathKind::Tar)
    } else {
        Err(Error::failed(format!(
            "{} is neither an archive of mongodump nor a tar of its folder",
            path.display()
        ))
        .hint(ACCEPTED))
    }
}

/// The beginning of a gzip stream. An entry that begins so would be at least 557 KB long.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// Passes the entries of an oplog's file to `each`. mongodump --gzip compresses the file without the suffix
/// `.gz`.
fn entries(file: &mut dyn Read, each: &mut dyn FnMut(&[u8])) -> Result<()> {
    let mut file = BufReader::with_capacity(BUFFER, file);
    let zipped = file.fill_buf().is_ok_and(|start| start.starts_with(&GZIP));
    let mut file: Box<dyn Read + '_> =
        if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let take = &mut |entry: &[u8]| {
        each(entry);
        Ok(())
    };
    documents(&files::oplog(), &mut *file, take).map(drop)
}

/// Counts the documents of an archive, and writes nothing.
#[derive(Default)]
pub(crate) struct ArchiveSurvey {
    pub namespaces: Vec<Namespace>,
    pub tallies: Vec<Tally>,
    /// The indexes in `system.indexes` collections.
    pub old: OldIndexes,
    at: usize,
}

impl Sink for ArchiveSurvey {
    fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
        self.tallies = vec![Tally::default(); namespaces.len()];
        self.namespaces = namespaces;
        Ok(())
    }

    fn begin(&mut self, at: usize) -> Result<()> {
        self.at = at;
        Ok(())
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        self.tallies[self.at] += Tally::of(raw);
        let namespace = &self.namespaces[self.at];
        if namespace.collection == legacy_dumps::STEM {
            self.old.add(&namespace.db, vec![legacy_dumps::parse(&namespace.db, raw)?]);
        }
        Ok(())
    }
}

/// Passes on the documents of one namespace.
struct Only<'a> {
    wanted: usize,
    open: bool,
    each: &'a mut dyn FnMut(&[u8]),
}

impl Sink for Only<'_> {
    fn begin(&mut self, at: usize) -> Result<()> {
        self.open = at == self.wanted;
        Ok(())
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        if self.open {
            (self.each)(raw);
        }
        Ok(())
    }
}

type OptionsAndIndexes = (RawDocumentBuf, Vec<RawDocumentBuf>);

/// Replaces the options and indexes of the dump with those of the index object in the artifact's folder, if their text
/// is the same. The index object has them as BSON; the artifact has them only as Extended JSON, which is not always
/// exact. Without an index object, or with one of another backup, nothing changes.
fn use_index_object(artifact: &Path, namespaces: &mut [Namespace]) {
    let path = artifact.with_file_name(index::FILE);
    let small = std::fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= index::LARGEST);
    let Some(index) = small.then(|| std::fs::read(&path).ok()).flatten() else { return };
    let Ok(index) = Index::decode(&index) else { return };
    let mut shapes: BTreeMap<String, Vec<OptionsAndIndexes>> = BTreeMap::new();
    for shape in index.namespaces.iter().filter_map(|described| described.documents().ok()) {
        let Ok(text) = metadata::render("", Type::Collection, None, &shape.0, &shape.1) else { continue };
        shapes.entry(shape_text(&text).into()).or_default().push(shape);
    }
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, namespace) in namespaces.iter().enumerate() {
        places.entry(shape_text(&namespace.metadata).into()).or_default().push(at);
    }
    for (text, mut places) in places {
        let Some(shapes) = shapes.get(&text) else { continue };
        // Namespaces with the same text are matched in the order of their names, as the index object lists
        // them.
        places.sort_by_key(|at| (namespaces[*at].db.clone(), namespaces[*at].collection.clone()));
        if places.len() == shapes.len() {
            for (at, (options, indexes)) in places.into_iter().zip(shapes) {
                (namespaces[at].options, namespaces[at].indexes) = (options.clone(), indexes.clone());
            }
        }
    }
}

/// The part of this tool's `metadata.json` with options and indexes, which come first.
fn shape_text(text: &str) -> &str {
    let end =
        [r#"],"uuid":""#, r#"],"collectionName":""#].into_iter().filter_map(|next| text.rfind(next)).min();
    &text[..end.unwrap_or(0)]
}
