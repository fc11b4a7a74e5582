//! Reading the members of a tar with a bound on what is held in memory of each.
//!
//! The `tar` crate (0.4.46) reads long names, the targets of links and PAX records into memory, however long the tar
//! claims that they are.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use tar::{Archive, Entry};

use crate::base::bounds::too_long;

/// The most bytes that the headers of a member may take: its name, the target of its link, and its PAX records. A path on
/// Linux has at most 4,096.
pub const LARGEST_HEADERS: u64 = 1 << 20;

/// The tar's bytes on their way to the `tar` crate.
pub struct Gate<R> {
    inner: R,
    passed: Rc<Cell<u64>>,
    /// How many bytes may have passed before headers count as too long.
    until: Rc<Cell<u64>>,
}

impl<R: Read> Read for Gate<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.until.get().saturating_sub(self.passed.get());
        if left == 0 && !out.is_empty() {
            return Err(too_long("the name of a member, or another header before it,", LARGEST_HEADERS));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let n = self.inner.read(&mut out[..most])?;
        self.passed.set(self.passed.get().saturating_add(n as u64));
        Ok(n)
    }
}

/// Shows the members of a tar in order. `broken` makes an error of the caller's from what is wrong with the tar.
///
/// # Errors
/// Returns an error if the tar is damaged, if the headers of a member are longer than [`LARGEST_HEADERS`], or if `show`
/// does.
pub fn each_member<R: Read, E>(
    raw: R,
    broken: impl Fn(io::Error) -> E,
    mut show: impl FnMut(&mut Entry<'_, Gate<R>>) -> Result<(), E>,
) -> Result<(), E> {
    let (passed, until) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(u64::MAX)));
    let mut archive = Archive::new(Gate { inner: raw, passed: passed.clone(), until: until.clone() });
    let mut entries = archive.entries().map_err(&broken)?;
    // The content of the member before that `show` did not read.
    let mut unread = 0;
    loop {
        until.set(passed.get().saturating_add(unread).saturating_add(LARGEST_HEADERS));
        let entry = entries.next();
        until.set(u64::MAX);
        let Some(entry) = entry else { return Ok(()) };
        let mut entry = entry.map_err(&broken)?;
        // The size of a sparse file is that of its holes as well; its header has the size in the tar.
        let stored = match entry.header().entry_type().is_gnu_sparse() {
            true => entry.header().entry_size().map_err(&broken)?,
            false => entry.size(),
        };
        let before = passed.get();
        show(&mut entry)?;
        unread = stored.saturating_sub(passed.get() - before);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tar::{Builder, EntryType, Header};

    use super::*;

    /// A tar with a plain member, then an extended header of `len` bytes of this type, then another member.
    fn with_header(kind: EntryType, len: u64) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        let member = |tar: &mut Builder<Vec<u8>>, name: &str| {
            let mut header = Header::new_gnu();
            header.set_size(3_000_000);
            tar.append_data(&mut header, name, io::repeat(1).take(3_000_000)).unwrap();
        };
        member(&mut tar, "a");
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(len);
        header.set_cksum();
        tar.append(&header, io::repeat(b'x').take(len)).unwrap();
        member(&mut tar, "b");
        tar.into_inner().unwrap()
    }

    #[test]
    fn long_headers_are_refused_and_contents_are_not() {
        for read in [0, 1_000, u64::MAX] {
            for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
                for (len, whole) in [(4_000, true), (LARGEST_HEADERS + 1, false), (50_000_000, false)] {
                    let tar = with_header(kind, len);
                    let mut names = 0;
                    let outcome = each_member(
                        &tar[..],
                        |e| e.to_string(),
                        |entry| {
                            names += 1;
                            io::copy(&mut entry.take(read), &mut io::sink()).map_err(|e| e.to_string())?;
                            Ok(())
                        },
                    );
                    assert_eq!(names, if whole { 2 } else { 1 }, "{kind:?} {len} {read}: {outcome:?}");
                    assert!(outcome.is_ok() == whole);
                    if let Err(why) = outcome {
                        assert!(why.contains("longer than 1.0 MiB"), "{why}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_header_that_never_ends_ends_the_reading() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let mut start = Vec::new();
        start.write_all(header.as_bytes()).unwrap();
        let endless = start.as_slice().chain(io::repeat(b'x'));
        let outcome = each_member(endless, |e| e.to_string(), |_| Ok(()));
        assert!(outcome.unwrap_err().contains("longer than"));
    }
}
