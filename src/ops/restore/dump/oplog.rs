//! The oplog of a dump: `oplog.bson` beside the folders of the databases, or the last namespace of an archive.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;

use super::{BUFFER, Dump, documents};
use crate::error::Result;
use crate::ops::restore::files::Part;

/// The name of its file.
pub const OPLOG: &str = "oplog";
/// The beginning of a deflated gzip stream. An entry would have to be 557 KB long or more to begin so.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// Where its oplog is.
#[derive(Debug, Clone, PartialEq)]
pub enum Oplog {
    /// In an archive: its place among the namespaces.
    Place(usize),
    /// The folder that its file seems to be in.
    Folder(String),
}

impl Oplog {
    /// The one among files of this name, by the folders they are in. In a tar the folder of the dump looks like a
    /// database; it is one that has nothing but an oplog, and no metadata of it. `files` are all files.
    pub fn find<'a, F: Iterator<Item = &'a (String, String)>>(
        folders: BTreeSet<String>,
        files: impl Fn() -> F,
        described: impl Fn(&str) -> bool,
    ) -> Option<Oplog> {
        let alone =
            |db: &String| !described(db) && !files().any(|(other, stem)| other == db && stem != OPLOG);
        folders.into_iter().find(alone).map(Oplog::Folder)
    }
}

impl Dump {
    /// Whether it has an oplog.
    pub fn has_oplog(&self) -> bool {
        self.oplog.is_some()
    }

    /// Shows every entry of its oplog in order.
    pub fn scan_oplog(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let folder = match &self.oplog {
            None => return Ok(()),
            Some(Oplog::Place(at)) => return self.scan(*at, each),
            Some(Oplog::Folder(folder)) => folder,
        };
        self.files(&mut |(db, stem, part), file| match part {
            Part::Documents if db == folder && stem == OPLOG => entries(file, each),
            _ => Ok(()),
        })
    }
}

/// Shows the entries of an oplog's file: with `--gzip` mongodump compresses it like the others, but does not
/// name it so.
fn entries(file: &mut dyn Read, each: &mut dyn FnMut(&[u8])) -> Result<()> {
    let mut file = BufReader::with_capacity(BUFFER, file);
    let zipped = file.fill_buf().is_ok_and(|start| start.starts_with(&GZIP));
    let mut file: Box<dyn Read + '_> =
        if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let each = &mut |entry: &[u8]| {
        each(entry);
        Ok(())
    };
    documents("", OPLOG, &mut *file, each).map(|_| ())
}
