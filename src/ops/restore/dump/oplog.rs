//! The oplog of a dump: `oplog.bson` beside the folders of the databases, or the last namespace of an archive.

use std::io::{BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;

use super::{BUFFER, Dump, Form, documents, raw};
use crate::base::error::Result;
use crate::ops::restore::files;

/// The beginning of a deflated gzip stream. An entry would have to be 557 KB long or more to begin so.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// Where its oplog is.
#[derive(Debug, Clone, PartialEq)]
pub enum Oplog {
    /// In an archive: its place among the namespaces.
    Place(usize),
    /// In a file of its own.
    File,
}

impl Dump {
    /// Whether it has an oplog.
    pub fn has_oplog(&self) -> bool {
        self.oplog.is_some()
    }

    /// Shows every entry of its oplog in order.
    pub fn scan_oplog(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        match (&self.oplog, &self.form) {
            (Some(Oplog::Place(at)), _) => self.scan(*at, each),
            (Some(Oplog::File), Form::Files(files)) => {
                let found = files.get_key_value(&files::oplog());
                files::read(found.as_slice(), &|| raw(&self.path), &mut |_, file| entries(file, each))
            }
            _ => Ok(()),
        }
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
    documents(&files::oplog(), &mut *file, each).map(|_| ())
}
