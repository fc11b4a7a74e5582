//! Readers of a dump that write nothing.

use super::dump::old::{self, OldIndexes};
use crate::base::error::Result;
use crate::dumpformat::Sink;
use crate::model::namespace::Namespace;
use crate::model::tally::Tally;

/// Counts what an archive holds.
#[derive(Default)]
pub struct Survey {
    /// What the dump announces.
    pub namespaces: Vec<Namespace>,
    /// What it has of each.
    pub tallies: Vec<Tally>,
    /// The indexes of a server that kept them in a collection.
    pub old: OldIndexes,
    at: usize,
}

impl Sink for Survey {
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
        if namespace.collection == old::STEM {
            self.old.add(&namespace.db, vec![old::parse(&namespace.db, raw)?]);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Takes the documents of one namespace.
pub struct Only<'a> {
    wanted: usize,
    open: bool,
    each: &'a mut dyn FnMut(&[u8]),
}

impl<'a> Only<'a> {
    /// Shows the documents of the namespace at this place.
    pub fn new(wanted: usize, each: &'a mut dyn FnMut(&[u8])) -> Only<'a> {
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
