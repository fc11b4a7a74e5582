//! The files of a mongodump directory, in a folder or in a tar, and which namespace each belongs to.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};
use std::path::Path;

use percent_encoding::percent_decode_str;

use crate::artifact::names::{self, OPLOG_FILE};
use crate::error::{Error, Kind, Result};
use crate::source::{Namespace, Type, metadata};

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Options and indexes.
    Metadata,
    /// Documents.
    Documents,
}

/// A file: its database, its name without suffix, and what it holds.
pub type Name = (String, String, Part);

/// Shows every file that belongs to a dump, decompressed where its name says so.
pub fn in_folder(root: &Path, take: &mut dyn FnMut(&Name, &mut dyn Read) -> Result<()>) -> Result<()> {
    let read = |path: &Path| {
        let cannot = |e| Error::failed(format!("cannot read {}", path.display())).caused_by(e);
        let entries = std::fs::read_dir(path).map_err(cannot)?;
        let mut paths: Vec<_> =
            entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>().map_err(cannot)?;
        paths.sort();
        Ok::<_, Error>(paths)
    };
    for top in read(root)? {
        let paths = if top.is_dir() { read(&top)? } else { vec![top] };
        for path in paths {
            let relative = path.strip_prefix(root).expect("it is below the root");
            let Some(relative) = relative.to_str() else {
                return Err(Error::failed(format!("the name of {} is not UTF-8", path.display())));
            };
            let Some((name, zipped)) = parse(relative) else { continue };
            let file = std::fs::File::open(&path)
                .map_err(|e| Error::failed(format!("cannot open {}", path.display())).caused_by(e))?;
            take(&name, &mut *plain(file, zipped))?;
        }
    }
    Ok(())
}

/// The same of a tar.
///
/// # Errors
/// Of the kind `Mismatch` if it does not end as a tar does: what it may have held is unknown.
pub fn in_tar(raw: impl Read, take: &mut dyn FnMut(&Name, &mut dyn Read) -> Result<()>) -> Result<()> {
    let broken = |e: std::io::Error| Error::new(Kind::Mismatch, "the tar is damaged").caused_by(e);
    let mut tail = Tail { inner: raw, zeros: 0 };
    let mut archive = tar::Archive::new(&mut tail);
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| Error::new(Kind::Mismatch, "a name in the tar is not UTF-8"))?;
        if let Some((name, zipped)) = parse(&path) {
            take(&name, &mut *plain(entry, zipped))?;
        }
    }
    std::io::copy(&mut tail, &mut std::io::sink()).map_err(broken)?;
    if tail.zeros < 512 {
        return Err(Error::new(Kind::Mismatch, "the tar is cut: it does not end as a tar does"));
    }
    Ok(())
}

fn plain<'a>(file: impl Read + 'a, zipped: bool) -> Box<dyn Read + 'a> {
    if zipped { Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) }
}

/// Counts the zero bytes at the end of what was read.
struct Tail<R> {
    inner: R,
    zeros: usize,
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(out)?;
        let zeros = out[..n].iter().rev().take_while(|byte| **byte == 0).count();
        self.zeros = if zeros == n { self.zeros + n } else { zeros };
        Ok(n)
    }
}

/// Database, name and part of a path, and whether it is compressed; `None` for anything else. The oplog beside
/// the folders of the databases has none.
fn parse(path: &str) -> Option<(Name, bool)> {
    let mut parts = path.rsplit('/');
    let (file, db) = (parts.next()?, parts.next().filter(|db| *db != ".").unwrap_or_default());
    if db.is_empty() && file != OPLOG_FILE {
        return None;
    }
    let (file, zipped) = file.strip_suffix(".gz").map_or((file, false), |file| (file, true));
    let (stem, part) = match (file.strip_suffix(".metadata.json"), file.strip_suffix(".bson")) {
        (Some(stem), _) => (stem, Part::Metadata),
        (_, Some(stem)) => (stem, Part::Documents),
        _ => return None,
    };
    Some(((db.into(), stem.into(), part), zipped))
}

/// The namespaces of a dump by their metadata, and to which of them each file of documents belongs.
pub struct Namespaces {
    /// In the order of their files.
    pub all: Vec<Namespace>,
    /// By database and the name of the file without suffix.
    pub of_file: BTreeMap<(String, String), usize>,
}

/// Puts together what was found: the texts of metadata, and the names of the files of documents.
pub fn namespaces(
    texts: &BTreeMap<(String, String), String>,
    documents: &[(String, String)],
) -> Result<Namespaces> {
    let mut all = Vec::new();
    let mut of_file = BTreeMap::new();
    for ((db, stem), text) in texts {
        let named = serde_json::from_str::<serde_json::Value>(text).ok();
        let named = named.and_then(|json| Some(json.get("collectionName")?.as_str()?.to_string()));
        let collection = match named {
            Some(name) => name,
            None => unescape(stem)?,
        };
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
                    format!("{db}.{collection} has no metadata: how its time series was made is unknown"),
                ));
            }
            vacant.insert(all.len());
            all.push(metadata::parse(db, &collection, "")?);
        }
    }
    let filled: BTreeSet<usize> = documents.iter().map(|file| of_file[file]).collect();
    for (at, namespace) in all.iter().enumerate() {
        if namespace.kind != Type::View && !filled.contains(&at) {
            let what = format!("the file with the documents of {namespace} is missing");
            return Err(Error::new(Kind::Mismatch, what));
        }
    }
    Ok(Namespaces { all, of_file })
}

/// A collection's name from its file's.
fn unescape(stem: &str) -> Result<String> {
    let spaced = stem.replace('+', " ");
    let name = percent_decode_str(&spaced).decode_utf8();
    name.map(|name| name.into_owned())
        .map_err(|_| Error::new(Kind::Mismatch, format!("'{stem}' is not the name of a collection's file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_dump() {
        let name = |db: &str, stem: &str, part| Some((db.to_string(), stem.to_string(), part));
        for (path, want, zipped) in [
            ("./shop/a.bson", name("shop", "a", Part::Documents), false),
            ("dump/shop/a%2Fb.metadata.json.gz", name("shop", "a%2Fb", Part::Metadata), true),
            ("shop/a.bson.gz", name("shop", "a", Part::Documents), true),
            ("oplog.bson", name("", "oplog", Part::Documents), false),
            ("./oplog.bson", name("", "oplog", Part::Documents), false),
            ("shop.bson", None, false),
            ("shop/notes.txt", None, false),
            ("dump/prelude.json", None, false),
        ] {
            let got = parse(path);
            assert_eq!(got.as_ref().map(|(name, _)| name.clone()), want, "{path}");
            assert_eq!(got.is_some_and(|(_, zipped)| zipped), zipped, "{path}");
        }
        assert_eq!(unescape("a+b%2Fc%C3%BC").unwrap(), "a b/cü");
    }

    #[test]
    fn files_find_their_namespaces() {
        let texts = [
            ("w", r#"{"options":{"timeseries":{"timeField":"t"}},"collectionName":"w"}"#),
            ("v", r#"{"options":{"viewOn":"c","pipeline":[]},"collectionName":"v"}"#),
        ];
        let texts = texts.map(|(stem, text)| (("d".to_string(), stem.to_string()), text.to_string())).into();
        let files = ["c", "system.buckets.w"].map(|stem| ("d".to_string(), stem.to_string()));
        let found = namespaces(&texts, &files).unwrap();
        let names: Vec<&str> = found.all.iter().map(|n| n.collection.as_str()).collect();
        assert_eq!(names, ["v", "w", "c"]);
        assert_eq!(files.clone().map(|file| found.of_file[&file]), [2, 1]);
        assert!(namespaces(&texts, &files[..1]).is_err(), "the documents of w are missing");
        assert!(namespaces(&BTreeMap::new(), &files).is_err(), "nobody knows what w was");
    }
}
