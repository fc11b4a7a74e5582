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
use crate::artifact::read::segment;
use crate::base::bounds::{LARGEST_METADATA, Limited, Structure};
use crate::base::error::{Error, Kind, Result};
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
const ACCEPTED: &str = "--from takes mongodump's folder with one folder for each database in it, its archive (--archive), or a \
                        tar of the folder, with gzip, zstd or neither; of a backup's own folder the file that begins with \
                        dump.";

/// A dump that was read to its end once.
#[derive(Debug)]
pub struct Dump {
    path: PathBuf,
    form: DumpForm,
    pub namespaces: Vec<Namespace>,
    tallies: Vec<Tally>,
    of_file: BTreeMap<(String, String), usize>,
    oplog: Option<DumpOplog>,
    /// Notes about options and indexes that are not restored as they are in the dump.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum DumpForm {
    Archive,
    /// A folder, or a tar of a folder.
    Files(Files),
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
            form: DumpForm::Archive,
            namespaces: Vec::new(),
            tallies: Vec::new(),
            of_file: BTreeMap::new(),
            oplog: None,
            notes: Vec::new(),
        };
        match shape(path)? {
            PathKind::Archive => {
                let mut survey = ArchiveSurvey::default();
                dump.read(&mut survey)?;
                (dump.namespaces, dump.tallies) = (survey.namespaces, survey.tallies);
                survey.old.give(&mut dump.namespaces);
                dump.oplog = dump.namespaces.iter().position(Namespace::is_oplog).map(DumpOplog::Destination);
            }
            PathKind::Folder => dump.survey_folder()?,
            PathKind::Tar => dump.survey_tar()?,
        }
        if dump.namespaces.iter().all(Namespace::is_oplog) {
            return Err(Error::failed(format!("{} contains no collection", path.display())).hint(ACCEPTED));
        }
        use_index_object(path, &mut dump.namespaces);
        dump.notes = dump.namespaces.iter_mut().flat_map(legacy_dumps::tidy).collect();
        Ok(dump)
    }

    pub(super) fn contents(&self) -> Vec<BackupNamespace> {
        let both = self.namespaces.iter().zip(&self.tallies);
        let source = |(namespace, tally): (&Namespace, &Tally)| BackupNamespace {
            db: namespace.db.clone(),
            collection: namespace.collection.clone(),
            kind: namespace.kind,
            documents: tally.documents,
            raw_bytes: tally.raw_bytes,
            stored_bytes: tally.raw_bytes,
            sum: tally.sum,
        };
        both.map(source).collect()
    }

    pub(crate) fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Reads the dump again. The positions that `sink` gets are those in [`namespaces`](Dump::namespaces).
    /// The documents of several namespaces may be interleaved.
    pub(crate) fn read(&self, sink: &mut dyn Sink) -> Result<()> {
        let DumpForm::Files(files) = &self.form else {
            let demux = Demux::new(BufReader::with_capacity(BUFFER, raw(&self.path)?)).mixed();
            return demux.run(&|_| true, sink).map(|_| ()).map_err(|e| match e.kind() {
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

    /// Passes every document of a namespace to `each`, in order.
    pub(crate) fn scan(&self, at: usize, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.read(&mut Only::new(at, each))
    }

    pub(super) fn has_oplog(&self) -> bool {
        self.oplog.is_some()
    }

    /// Passes every entry of the oplog to `each`, in order.
    pub(super) fn scan_oplog(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        match (&self.oplog, &self.form) {
            (Some(DumpOplog::Destination(at)), _) => self.scan(*at, each),
            (Some(DumpOplog::File), DumpForm::Files(files)) => {
                let found = files.get_key_value(&files::oplog());
                files::read(found.as_slice(), &|| raw(&self.path), &mut |_, file| entries(file, each))
            }
            _ => Ok(()),
        }
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
        let mut early: BTreeMap<MemberKey, Result<Content>> = BTreeMap::new();
        let mut structure = Structure::default();
        let files = files::in_tar(raw(&self.path)?, &mut |shown, name, file| {
            // Damage counts only if no later member replaces this one.
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

    fn put_together(&mut self, files: Files, contents: BTreeMap<PartName, Content>) -> Result<()> {
        let (mut texts, mut tallies, mut old) = (BTreeMap::new(), BTreeMap::new(), OldIndexes::default());
        for ((db, stem, _), content) in contents {
            match content {
                Content::Text(_) if stem == legacy_dumps::STEM => {}
                Content::Text(text) => {
                    texts.insert((db, stem), text);
                }
                Content::Documents(tally) => {
                    tallies.insert((db, stem), tally);
                }
                Content::Indexes(indexes) => old.add(&db, indexes),
                Content::Unread => self.oplog = Some(DumpOplog::File),
            }
        }
        let names: Vec<_> = tallies.keys().cloned().collect();
        let mut found = files::namespaces(&texts, &names)?;
        old.give(&mut found.all);
        self.tallies = vec![Tally::default(); found.all.len()];
        for (key, tally) in tallies {
            self.tallies[found.of_file[&key]] += tally;
        }
        (self.namespaces, self.of_file, self.form) = (found.all, found.of_file, DumpForm::Files(files));
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
        if *part == FilePart::Metadata {
            let damaged =
                |e| Error::new(Kind::Mismatch, format!("{db}/{stem}.metadata.json is damaged")).caused_by(e);
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
            structure.keep(document.len()).map_err(|e| {
                Error::new(Kind::Mismatch, format!("{db}/{stem}.bson is damaged")).caused_by(e)
            })?;
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
    let read = segment::documents(file, None, &mut |run, _| {
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
    if start.starts_with(&MAGIC.to_le_bytes()) {
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

/// The place of the oplog.
#[derive(Debug, Clone, PartialEq)]
enum DumpOplog {
    /// In an archive: its position among the namespaces.
    Destination(usize),
    File,
}

/// Passes the entries of an oplog's file to `each`. mongodump --gzip compresses the file without the suffix
/// `.gz`.
fn entries(file: &mut dyn Read, each: &mut dyn FnMut(&[u8])) -> Result<()> {
    let mut file = BufReader::with_capacity(BUFFER, file);
    let zipped = file.fill_buf().is_ok_and(|start| start.starts_with(&GZIP));
    let mut file: Box<dyn Read + '_> =
        if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let each = &mut |entry: &[u8]| {
        each(entry);
        Ok(())
    };
    documents(&files::oplog(), &mut *file, each).map(|_| ())
}

/// Counts the documents of an archive, and writes nothing.
#[derive(Default)]
pub(crate) struct ArchiveSurvey {
    /// The namespaces in the prelude.
    pub namespaces: Vec<Namespace>,
    /// The documents of each namespace.
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

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

pub(crate) struct Only<'a> {
    wanted: usize,
    open: bool,
    each: &'a mut dyn FnMut(&[u8]),
}

impl<'a> Only<'a> {
    pub(crate) fn new(wanted: usize, each: &'a mut dyn FnMut(&[u8])) -> Only<'a> {
        Only { wanted, open: false, each }
    }
}

impl Sink for Only<'_> {
    fn prelude(&mut self, _: Vec<Namespace>) -> Result<()> {
        Ok(())
    }

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

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

type OptionsAndIndexes = (RawDocumentBuf, Vec<RawDocumentBuf>);

/// Replaces options and indexes by those of the index object in the artifact's folder, if their text is the
/// same. The index object has them as BSON; the artifact has them only as Extended JSON, which is not always
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
