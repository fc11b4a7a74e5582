//! Finds the files of a mongodump folder, in a directory or in a tar, and the namespace of each.
//!
//! A tar counts as the files that `tar x` would write: the later one of two members with one path, and a hard
//! link with the content that its target had at that point of the tar. Everything that is neither a file nor
//! a directory is refused by name, because otherwise a collection could be missing without a message.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::FileType;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use tar::EntryType;

use crate::artifact::tar::each_member;
use crate::base::bounds::Structure;
use crate::base::error::{Error, Kind, Result};
use crate::dumpformat::metadata;
use crate::dumpformat::names;
use crate::dumpformat::names::OPLOG_FILE;
use crate::model::namespace::{Namespace, Type};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FilePart {
    Metadata,
    Documents,
}

/// A file's database, name without suffix, and part. The oplog lies next to the folders of the databases, and
/// has an empty database.
pub(crate) type PartName = (String, String, FilePart);

pub(crate) fn oplog() -> PartName {
    (String::new(), "oplog".into(), FilePart::Documents)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// The path in the tar or in the file system.
    path: PathBuf,
    /// The position among the members of a tar, from 0.
    member: Option<usize>,
    zipped: bool,
}

impl File {
    /// The key under which [`in_tar`] may have passed the file's content on; `None` for a file of a folder. It
    /// does not pass on a hard link whose target is no part of the dump, or has another suffix.
    pub(super) fn member_key(&self, name: &PartName) -> Option<MemberKey> {
        Some((self.member?, name.2, self.zipped))
    }
}

pub(crate) type Files = BTreeMap<PartName, File>;

/// Takes a file's decompressed content.
pub(crate) type Take<'a> = dyn FnMut(&PartName, &mut dyn Read) -> Result<()> + 'a;

/// Lists a folder with one folder for each database. Returns an error if something in it is neither a file
/// nor a directory, or if two files have the same part of the dump.
pub(super) fn in_folder(root: &Path) -> Result<Files> {
    let mut files = Files::new();
    for (top, kind) in entries(root)? {
        let inner = if kind.is_dir() { entries(&top)? } else { vec![(top, kind)] };
        for (path, kind) in inner {
            let relative = path.strip_prefix(root).expect("it is below the root");
            let Some(relative) = relative.to_str() else {
                return Err(Error::failed(format!("the name of {} is not UTF-8", path.display())));
            };
            let Some(parsed) = parse(relative) else { continue };
            if kind.is_dir() {
                return Err(Error::failed(format!("{} is a directory, not a file", path.display())));
            }
            add(&mut files, parsed.name, File { path, member: None, zipped: parsed.zipped })?;
        }
    }
    Ok(files)
}

/// The entries of a directory, by path. A soft link counts as its target.
fn entries(path: &Path) -> Result<Vec<(PathBuf, FileType)>> {
    let cannot = |e| Error::failed(format!("cannot read {}", path.display())).caused_by(e);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let kind = std::fs::metadata(&path).map_err(|e| {
            let link = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
            let what = if link { "a soft link without a target" } else { "not readable" };
            Error::failed(format!("{} is {what}", path.display())).caused_by(e)
        })?;
        let kind = kind.file_type();
        if !kind.is_file() && !kind.is_dir() {
            let what = match kind {
                kind if kind.is_fifo() => "a named pipe",
                kind if kind.is_socket() => "a socket",
                _ => "a device",
            };
            return Err(Error::failed(format!("{} is {what}, not a file", path.display()))
                .hint("Remove it from the folder, or replace it with a file"));
        }
        all.push((path, kind));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

/// Lists a tar of such a folder, and passes on the content of each member whose own path names a part of a
/// dump, also if a later member replaces it: [`File::member_key`] is the key of a file's content. Returns an
/// error if a member is neither a file nor a directory, if a hard link or a path leads out of the tar, or if
/// two files are the same part of the dump; an error of the kind `Mismatch` if the tar is damaged or
/// truncated.
pub(crate) fn in_tar(
    raw: impl Read,
    show: &mut dyn FnMut(MemberKey, &PartName, &mut dyn Read) -> Result<()>,
) -> Result<Files> {
    let mut paths: BTreeMap<String, usize> = BTreeMap::new();
    let mut structure = Structure::default();
    members(raw, &mut |at, path, kind, content| {
        structure
            .keep(path.len())
            .map_err(|e| Error::new(Kind::Mismatch, "the tar is refused").caused_by(e))?;
        match kind {
            Member::Directory => {}
            Member::File => {
                if let Some(parsed) = parse(path) {
                    let key = (at, parsed.name.2, parsed.zipped);
                    show(key, &parsed.name, &mut *plain(content, parsed.zipped))?;
                }
                paths.insert(path.into(), at);
            }
            Member::Link(target) => {
                let Some(file) = paths.get(&target).copied() else {
                    let what = format!(
                        "the tar's member {path} is a hard link to {target}, but no earlier member has that path"
                    );
                    return Err(Error::failed(what).hint(UNPACK));
                };
                paths.insert(path.into(), file);
            }
        }
        Ok(())
    })?;
    let parts: Vec<(&String, usize, Parsed)> =
        paths.iter().filter_map(|(path, at)| Some((path, *at, parse(path)?))).collect();
    let root = root(&parts)?;
    let mut files = Files::new();
    for (path, member, parsed) in parts {
        let name = match parsed.is_oplog_in(root.as_deref()) {
            true => oplog(),
            false => parsed.name,
        };
        add(&mut files, name, File { path: path.into(), member: Some(member), zipped: parsed.zipped })?;
    }
    Ok(files)
}

/// The folder in a tar that contains the folders of the databases. Returns an error if there are several,
/// because then it is unknown which dump is meant.
fn root(parts: &[(&String, usize, Parsed)]) -> Result<Option<String>> {
    let mut roots: BTreeMap<&str, &str> = BTreeMap::new();
    for (path, _, parsed) in parts.iter().filter(|(_, _, parsed)| !parsed.may_be_oplog()) {
        roots.entry(&parsed.root).or_insert(path);
    }
    // An oplog lies in the root itself; elsewhere it is a collection named oplog.
    if let [(root, path)] = &roots.iter().collect::<Vec<_>>()[..] {
        let stray = parts.iter().find(|(_, _, parsed)| {
            parsed.may_be_oplog() && parsed.folder() != **root && parsed.root != **root
        });
        return match stray {
            Some((stray, _, _)) => Err(two_dumps(path, stray)),
            None => Ok(Some(root.to_string())),
        };
    }
    match &roots.values().collect::<Vec<_>>()[..] {
        [first, second, ..] => Err(two_dumps(first, second)),
        _ => Ok(None),
    }
}

fn two_dumps(first: &str, second: &str) -> Error {
    Error::failed(format!("the tar contains more than one dump: {first} and {second} are not in one folder"))
        .hint("Unpack it, and give --from the folder of one dump")
}

/// Adds a file. Returns an error if another file has the same part of the dump.
fn add(files: &mut Files, name: PartName, file: File) -> Result<()> {
    match files.entry(name) {
        Entry::Vacant(vacant) => {
            vacant.insert(file);
            Ok(())
        }
        Entry::Occupied(other) => {
            let (one, two) = (other.get().path.display(), file.path.display());
            Err(Error::failed(format!(
                "{one} and {two} are the same part of the dump, and it is unknown which one counts"
            ))
            .hint("Remove one of them from the dump, and restore again"))
        }
    }
}

/// Identifies a tar member whose content was passed on: its position, its part, and true if it is compressed.
pub(crate) type MemberKey = (usize, FilePart, bool);

/// Passes the content of files to `take`. `raw` opens the tar that contains them.
pub(crate) fn read(
    files: &[(&PartName, &File)],
    raw: &dyn Fn() -> Result<Box<dyn Read>>,
    take: &mut Take<'_>,
) -> Result<()> {
    let mut left: BTreeMap<usize, Vec<(&PartName, &File)>> = BTreeMap::new();
    for (name, file) in files {
        match file.member {
            Some(member) => left.entry(member).or_default().push((name, file)),
            None => {
                let opened = std::fs::File::open(&file.path).map_err(|e| {
                    Error::failed(format!("cannot open {}", file.path.display())).caused_by(e)
                })?;
                take(name, &mut *plain(opened, file.zipped))?;
            }
        }
    }
    // The tar is read once for all files, and again for each further hard link to a member.
    while !left.is_empty() {
        members(raw()?, &mut |at, _, _, content| {
            let Some((name, file)) = left.get_mut(&at).and_then(Vec::pop) else { return Ok(()) };
            take(name, &mut *plain(content, file.zipped))
        })?;
        left.retain(|_, files| !files.is_empty());
    }
    Ok(())
}

enum Member {
    File,
    Directory,
    Link(String),
}

/// Takes a member of a tar: its position, path, kind and content.
type Show<'a> = dyn FnMut(usize, &str, Member, &mut dyn Read) -> Result<()> + 'a;

const UNPACK: &str = "Unpack the tar, and give --from the folder";

/// Passes the members of a tar to `show`, in order, with paths without `.`.
fn members(raw: impl Read, show: &mut Show<'_>) -> Result<()> {
    let broken = |e: std::io::Error| Error::new(Kind::Mismatch, "the tar is damaged").caused_by(e);
    let mut tail = ZeroTail { inner: raw, zeros: 0 };
    let mut next = 0;
    each_member(&mut tail, broken, |entry| {
        let at = next;
        next += 1;
        let header = entry.header().entry_type();
        // Headers for the whole tar, and its label.
        if header.is_pax_global_extensions() || header.as_byte() == b'V' {
            return Ok(());
        }
        let mut path = clean(&entry.path_bytes())?;
        let mut sparse = false;
        for extension in entry.pax_extensions().map_err(broken)?.into_iter().flatten().flatten() {
            sparse |= extension.key_bytes().starts_with(b"GNU.sparse.");
            if extension.key_bytes() == b"GNU.sparse.name" {
                path = clean(extension.value_bytes())?;
            }
        }
        let refused = match header {
            _ if sparse => Some("a sparse file"),
            EntryType::Symlink => Some("a soft link"),
            EntryType::Fifo => Some("a named pipe"),
            EntryType::Char | EntryType::Block => Some("a device"),
            EntryType::Link if entry.size() > 0 => Some("a hard link with content"),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => None,
            EntryType::Directory | EntryType::Link => None,
            // The list of a directory in an incremental backup by GNU tar.
            _ if header.as_byte() == b'D' => None,
            _ => Some("neither a file nor a directory"),
        };
        if let Some(what) = refused {
            return Err(Error::failed(format!("the tar's member {path} is {what}")).hint(UNPACK));
        }
        let member = match header {
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                Member::Link(clean(&target)?)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse
                if !entry.path_bytes().ends_with(b"/") =>
            {
                Member::File
            }
            _ => Member::Directory,
        };
        show(at, &path, member, entry)
    })?;
    let mut rest = Vec::new();
    loop {
        rest.clear();
        (&mut tail).take(1 << 16).read_to_end(&mut rest).map_err(broken)?;
        if rest.iter().any(|byte| *byte != 0) {
            let what = "data follows the end of the tar, and tar itself would ignore it";
            return Err(Error::new(Kind::Mismatch, what)
                .hint("If several tars were concatenated, separate them: --from takes one dump"));
        }
        if rest.is_empty() {
            break;
        }
    }
    if tail.zeros < 512 {
        return Err(Error::new(Kind::Mismatch, "the tar is truncated: its end marker is missing"));
    }
    Ok(())
}

/// A member's path as `tar x` creates it below the current directory. Returns an error if it leads out of the
/// directory, or is not UTF-8.
fn clean(path: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(path)
        .map_err(|_| Error::new(Kind::Mismatch, "a name in the tar is not UTF-8"))?;
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if text.starts_with('/') || parts.contains(&"..") {
        let what = format!("the tar's member {text} has a path that leads out of the tar");
        return Err(Error::failed(what).hint(UNPACK));
    }
    Ok(parts.join("/"))
}

fn plain<'a>(file: impl Read + 'a, zipped: bool) -> Box<dyn Read + 'a> {
    if zipped { Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) }
}

/// Counts the zero bytes at the end of a stream.
struct ZeroTail<R> {
    inner: R,
    zeros: usize,
}

impl<R: Read> Read for ZeroTail<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(out)?;
        let zeros = out[..n].iter().rev().take_while(|byte| **byte == 0).count();
        self.zeros = if zeros == n { self.zeros + n } else { zeros };
        Ok(n)
    }
}

/// The parts of a file's path in a dump.
#[derive(Debug, PartialEq)]
struct Parsed {
    /// The folder that contains the database's folder.
    root: String,
    name: PartName,
    zipped: bool,
}

impl Parsed {
    fn folder(&self) -> String {
        match self.root.as_str() {
            "" => self.name.0.clone(),
            root => format!("{root}/{}", self.name.0),
        }
    }

    /// Returns true if the file is named like an oplog. A collection `oplog` has the same file name.
    fn may_be_oplog(&self) -> bool {
        self.name.2 == FilePart::Documents && self.name.1 == "oplog"
    }

    /// Returns true if this file is the oplog of the dump in this folder.
    fn is_oplog_in(&self, root: Option<&str>) -> bool {
        self.may_be_oplog() && root.is_none_or(|root| self.folder() == root)
    }
}

/// Parses a path without `.`; `None` for a file that is no part of a dump.
fn parse(path: &str) -> Option<Parsed> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    // macOS adds files such as `._a.bson` to copies; no collection's name begins with a dot.
    let in_root = file.strip_suffix(".gz").unwrap_or(file) == OPLOG_FILE;
    if folder.is_empty() && !in_root || file.starts_with("._") {
        return None;
    }
    let (root, db) = folder.rsplit_once('/').unwrap_or(("", folder));
    let (file, zipped) = file.strip_suffix(".gz").map_or((file, false), |file| (file, true));
    let (stem, part) = match (file.strip_suffix(".metadata.json"), file.strip_suffix(".bson")) {
        (Some(stem), _) => (stem, FilePart::Metadata),
        (_, Some(stem)) => (stem, FilePart::Documents),
        _ => return None,
    };
    Some(Parsed { root: root.into(), name: (db.into(), stem.into(), part), zipped })
}

/// The namespaces of a dump, and the namespace of each file.
pub(crate) struct DumpNamespaces {
    pub all: Vec<Namespace>,
    /// Positions in `all`, by database and the name of the file without suffix.
    pub of_file: BTreeMap<(String, String), usize>,
}

/// Assigns files to namespaces, by the texts of the metadata files and the names of the files with documents.
pub(crate) fn namespaces(
    texts: &BTreeMap<(String, String), String>,
    documents: &[(String, String)],
) -> Result<DumpNamespaces> {
    let mut all = Vec::new();
    let mut of_file = BTreeMap::new();
    for ((db, stem), text) in texts {
        let collection = collection(stem, text)?;
        let namespace = metadata::parse(db, &collection, text).map_err(|e| e.of_kind(Kind::Mismatch))?;
        // A server from 8.3 on has the buckets under the name of the time series itself.
        of_file.insert((db.clone(), names::escape(namespace.data_collection())), all.len());
        of_file.insert((db.clone(), stem.clone()), all.len());
        all.push(namespace);
    }
    for file @ (db, stem) in documents {
        if let Entry::Vacant(vacant) = of_file.entry(file.clone()) {
            let collection = unescape(stem)?;
            if collection.starts_with("system.buckets.") {
                return Err(Error::new(
                    Kind::Mismatch,
                    format!(
                        "{db}.{collection} has no metadata, so the options of its time series are unknown"
                    ),
                ));
            }
            vacant.insert(all.len());
            all.push(metadata::parse(db, &collection, "")?);
        }
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = all.iter().find(|n| !names.insert((&n.db, &n.collection))) {
        return Err(Error::failed(format!(
            "several metadata files of the dump are for {twice}, and it is unknown which one counts"
        )));
    }
    let mut filled = BTreeMap::new();
    for file @ (db, stem) in documents {
        if let Some(other) = filled.insert(of_file[file], stem) {
            let what = format!(
                "{db}/{other}.bson and {db}/{stem}.bson both contain the documents of {}",
                all[of_file[file]]
            );
            return Err(Error::failed(format!("{what}, and it is unknown which one counts")));
        }
    }
    for (at, namespace) in all.iter().enumerate() {
        if namespace.kind != Type::View && !filled.contains_key(&at) {
            let what = format!("the file with the documents of {namespace} is missing");
            return Err(Error::new(Kind::Mismatch, what));
        }
    }
    Ok(DumpNamespaces { all, of_file })
}

/// A collection's name, from the name of its file as in mongorestore, so that a renamed file is another
/// collection. If the file's name was cut, the metadata has the name.
fn collection(stem: &str, text: &str) -> Result<String> {
    match metadata::collection_name(text) {
        Some(name) if names::is_cut(stem) || names::escape(&name) == stem => Ok(name),
        _ => unescape(stem),
    }
}

fn unescape(stem: &str) -> Result<String> {
    let spaced = stem.replace('+', " ");
    let name = percent_decode_str(&spaced).decode_utf8();
    name.map(|name| name.into_owned())
        .map_err(|_| Error::new(Kind::Mismatch, format!("'{stem}' is not the name of a collection's file")))
}

#[cfg(test)]
mod tests;
