//! Entry points for fuzzing: each gives bytes to the parsers of one kind of foreign input.
//!
//! This file is a module of the crate, because the parsers are private. It is compiled for unit tests and, with
//! `--cfg fuzzing`, for the libFuzzer programs in `fuzz_targets`. An entry point returns normally if the parsers
//! reject the bytes. It panics if a parser panics, or if bytes that were accepted break a property that later
//! code relies on.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use bson::{RawDocument, RawDocumentBuf};

use crate::artifact::read;
use crate::artifact::unseal::unseal;
use crate::base::bounds::{self, Structure};
use crate::base::error::Result;
use crate::base::keys::{IdentityFile, Recipient};
use crate::catalog::run::BackupRun;
use crate::catalog::verdict::Verdict;
use crate::config::selection::Selection;
use crate::dumpformat::demux::{Demux, whole_documents};
use crate::dumpformat::extjson::{self, Json};
use crate::dumpformat::oplog::script::Script;
use crate::dumpformat::{Sink, metadata};
use crate::model::index::Index;
use crate::model::manifest::Manifest;
use crate::model::namespace::{Namespace, Type};
use crate::model::optime::OpTime;
use crate::model::slice::{EventsFile, SliceManifest};
use crate::mongo::commands::Unfit;
use crate::mongo::{commands, meaning};
use crate::ops::restore::RestoreFilter;
use crate::ops::restore::dump::files;
use crate::ops::restore::dump::{Content, legacy_dumps};
use crate::ops::restore::filter::ReplayFilter;
use crate::restore_target::legacy_indexes;
use crate::source::native::cursor;
use crate::source::oplog::filter::OplogFilter;

/// An entry point.
pub type Target = fn(&[u8]);

/// Every entry point under the name of its libFuzzer target and of its folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 9] = [
    ("age", age),
    ("manifest", manifest),
    ("index", index),
    ("tar", tar),
    ("archive", archive),
    ("metadata", metadata_json),
    ("extjson", extended_json),
    ("oplog", oplog),
    ("replies", replies),
];

/// Gives `bytes` to the entry point of this name.
///
/// # Panics
/// Panics if there is no such entry point, or if one of its parsers has a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("the target is in TARGETS");
    target(bytes);
}

/// The key of the age files in the corpus.
const KEY: &[u8] = include_bytes!("corpus/age/identity.txt");

/// An age file, an identity file, or a recipient.
fn age(bytes: &[u8]) {
    let identities = |bytes: &[u8]| {
        IdentityFile::of(Path::new("key"), bytes.to_vec()).and_then(|file| file.identities(None))
    };
    if let Ok(plain) = unseal(bytes, &identities(KEY).expect("an identity file")) {
        assert!(plain.len() < bytes.len(), "the header and a tag are not part of the content");
    }
    let _ = identities(bytes);
    if let Some(recipient) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Recipient>().ok()) {
        let again: Recipient = recipient.to_string().parse().expect("the canonical form can be read");
        assert_eq!(again.to_string(), recipient.to_string());
    }
}

/// A manifest, and the other JSON objects of a store.
fn manifest(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Verdict>(bytes);
    let _ = EventsFile::decode(bytes);
    if let Ok(slice) = SliceManifest::decode(bytes) {
        let again = slice.encode().expect("a slice that was read can be written");
        assert_eq!(SliceManifest::decode(&again), Ok(slice), "the encoded slice decodes to the same slice");
    }
    let Ok(manifest) = Manifest::decode(bytes) else { return };
    let _ = (manifest.source.needs(), manifest.collapsed(), manifest.slice_place());
    let _ = BackupRun::completed(&manifest, "s3://bucket/");
    for place in 0..=manifest.namespaces.len() + 1 {
        let _ = manifest.name(place);
    }
    let again = manifest.encode().expect("a manifest that was read can be written");
    assert_eq!(
        Manifest::decode(&again).as_ref(),
        Ok(&manifest),
        "the encoded manifest decodes to the same manifest"
    );
}

/// An index: JSON, which is compressed here so that mutations reach the parser behind the decompression; or
/// the compressed bytes of the object.
fn index(bytes: &[u8]) {
    let object = match bytes.first() {
        Some(b'{') => zstd::bulk::compress(bytes, 1).expect("memory can be compressed"),
        _ => bytes.to_vec(),
    };
    let Ok(index) = Index::decode(&object) else { return };
    for described in &index.namespaces {
        if let Ok((options, indexes)) = described.documents() {
            for document in std::iter::once(&options).chain(&indexes) {
                let _ = document.iter().all(|element| element.is_ok());
            }
        }
    }
    let Ok(manifest) = Manifest::decode(include_bytes!("corpus/manifest/of-a-tar-with-a-slice.json")) else {
        unreachable!("the corpus has a manifest")
    };
    if read::check_index(&index, &manifest).is_ok() {
        let regions = read::regions(&index, &manifest);
        assert!(
            regions.iter().all(|region| region.range.end <= manifest.artifact.size),
            "regions are within the artifact"
        );
    }
}

/// A tar of a mongodump folder, uncompressed.
fn tar(bytes: &[u8]) {
    let Ok(found) = files::in_tar(bytes, &mut |_, name, file| {
        let _ = Content::read(name, file, &mut Structure::default());
        Ok(())
    }) else {
        return;
    };
    let listed: Vec<_> = found.iter().collect();
    let mut texts = BTreeMap::new();
    let mut names = Vec::new();
    let open = || -> Result<Box<dyn Read>> { Ok(Box::new(std::io::Cursor::new(bytes.to_vec()))) };
    let read = files::read(&listed, &open, &mut |name, file| {
        match Content::read(name, file, &mut Structure::default())? {
            Content::Text(text) => drop(texts.insert((name.0.clone(), name.1.clone()), text)),
            _ if *name != files::oplog() => names.push((name.0.clone(), name.1.clone())),
            _ => {}
        }
        Ok(())
    });
    if read.is_ok()
        && let Ok(mut namespaces) = files::namespaces(&texts, &names)
    {
        namespaces.all.iter_mut().for_each(check_namespace);
    }
}

/// An archive of mongodump, uncompressed.
fn archive(bytes: &[u8]) {
    let mixed = Demux::new(bytes).mixed().run(&|_| true, &mut OrderCheck::default());
    let mut sink = OrderCheck::default();
    let ordered = Demux::new(bytes).run(&|_| true, &mut sink);
    assert!(
        ordered.is_err() || mixed.is_ok(),
        "the reader for mixed order accepts every archive that the other reader accepts"
    );
    if ordered.is_ok() {
        sink.namespaces.iter_mut().for_each(check_namespace);
    }
}

/// A `metadata.json`.
fn metadata_json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = metadata::collection_name(text);
    if let Ok(mut namespace) = metadata::parse("db", "collection", text) {
        check_namespace(&mut namespace);
    }
}

/// Extended JSON.
fn extended_json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(json) = Json::parse(text) else { return };
    let Ok(Some(document)) = json.document() else { return };
    let mut written = String::new();
    extjson::write_document(&mut written, &document).expect("a document that was read can be written");
    let again = Json::parse(&written).expect("the written text is JSON");
    let again =
        again.document().expect("the written text is Extended JSON").expect("the written text is a document");
    let mut second = String::new();
    extjson::write_document(&mut second, &again).expect("a document that was read can be written");
    assert_eq!(written, second, "writing, reading and writing again changes nothing");
}

/// Oplog entries, one after the other.
fn oplog(bytes: &[u8]) {
    let selection = Selection::default();
    let mut filter = OplogFilter::new(&selection, OpTime { t: 1, i: 1 });
    let names = ReplayFilter { filter: RestoreFilter::default(), users: true, staged: None };
    let mut script = Script::new(names, vec!["admin.root".into()], None);
    let mut rest = &bytes[..whole_documents(bytes)];
    while let Some(len) = rest.first_chunk::<4>() {
        let (entry, after) = rest.split_at(i32::from_le_bytes(*len) as usize);
        rest = after;
        if let Ok(entry) = RawDocument::from_bytes(entry) {
            let _ = filter.take(entry);
        }
        let _ = script.take(entry, &mut |_| Ok(()));
    }
}

/// A reply of a server: to `hello`, `find`, `getMore`, or a row of `listCollections` or `listIndexes`.
fn replies(bytes: &[u8]) {
    let _ = cursor::shown(bytes);
    let Ok(reply) = RawDocument::from_bytes(bytes) else { return };
    if bounds::check_depth(reply).is_err() {
        return;
    }
    if let Some(id) = cursor::token_of(reply) {
        let _ = id.token();
    }
    let _ = (cursor::has_token(reply), cursor::is_last(reply), commands::uuid_of(reply));
    if let Ok(reply) = bson::Document::try_from(reply) {
        let _ = Unfit::of(&reply);
    }
    let _ = (meaning::same_index(reply, reply), meaning::same_options(reply, reply));
    let _ = legacy_dumps::parse("db", bytes);
    let _ = legacy_indexes::tidy(reply);
    let options = reply.get_document("options").map(|d| d.to_owned()).unwrap_or_default();
    let uuid = commands::uuid_of(reply);
    for kind in [Type::Collection, Type::View, Type::Timeseries] {
        let indexes = [reply.to_owned()];
        if let Ok(text) = metadata::render("collection", kind, uuid.as_deref(), &options, &indexes) {
            let namespace =
                metadata::parse("db", "collection", &text).expect("rendered metadata can be parsed");
            assert_eq!(namespace.indexes.len(), 1);
        }
    }
}

/// Converts a parsed namespace to the form in which it is restored.
fn check_namespace(namespace: &mut Namespace) {
    let _ = legacy_dumps::tidy(namespace);
    let all: Vec<&RawDocumentBuf> = std::iter::once(&namespace.options).chain(&namespace.indexes).collect();
    for document in all {
        let _ = (meaning::same_index(document, document), meaning::same_options(document, document));
        let mut text = String::new();
        let _ = extjson::write_document(&mut text, document);
    }
}

/// A sink that checks that the reader calls its methods in the right order.
#[derive(Default)]
struct OrderCheck {
    namespaces: Vec<Namespace>,
    open: Option<usize>,
}

impl Sink for OrderCheck {
    fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
        self.namespaces = namespaces;
        Ok(())
    }

    fn begin(&mut self, namespace: usize) -> Result<()> {
        assert!(namespace < self.namespaces.len());
        self.open = Some(namespace);
        Ok(())
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        assert!(self.open.is_some() && raw.len() >= 5);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        assert!(self.open.is_some());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// The number of mutations of each target in a normal run, and with `UZIMA_TEST_FULL`.
    const SAMPLE: u64 = 1_500;
    const FULL: u64 = 100_000;

    /// The maximum length of an input in bytes.
    const LONGEST: usize = 64 << 10;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    /// The files of a target's corpus, by name.
    fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
        let folder = root().join("corpus").join(target);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
            .map(|entry| {
                let path = entry.unwrap().path();
                (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
            })
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{} contains no seed", folder.display());
        files
    }

    /// This test keeps every parser and every past finding under test. `cargo +nightly fuzz run NAME` searches longer and
    /// is guided by coverage.
    #[test]
    fn every_parser_of_foreign_bytes_survives_mutations_of_the_corpus() {
        let full = std::env::var_os("UZIMA_TEST_FULL").is_some();
        let mutations = if full { FULL } else { SAMPLE };
        let seed: u64 = rand::random();
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            let check = |bytes: &[u8], what: &dyn Fn() -> String| {
                if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
                    let kept = std::env::temp_dir().join(format!("uzima-fuzz-{name}-{seed}"));
                    fs::write(&kept, bytes).unwrap();
                    panic!(
                        "the parsers of {name} panic on {}; the input is kept in {}",
                        what(),
                        kept.display()
                    );
                }
            };
            for (file, bytes) in &corpus {
                check(bytes, &|| format!("fuzz/corpus/{name}/{file}"));
            }
            let mut random = SmallRng::seed_from_u64(seed);
            for at in 0..mutations {
                let bytes = mutated(&corpus, &mut random);
                check(&bytes, &|| format!("mutation {at} with the seed {seed}"));
            }
            println!("{name}: {} seeds, {mutations} mutations, seed {seed}", corpus.len());
        }
    }

    /// The `cargo fuzz` package has exactly one program for each entry point.
    #[test]
    fn every_entry_point_has_a_libfuzzer_target() {
        let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
        let mut programs: Vec<String> = manifest["bin"]
            .as_array()
            .unwrap()
            .iter()
            .map(|program| {
                let name = program["name"].as_str().unwrap();
                let path = root().join(program["path"].as_str().unwrap());
                assert!(
                    fs::read_to_string(path).unwrap().contains(&format!("run(\"{name}\", bytes)")),
                    "{name}"
                );
                name.to_string()
            })
            .collect();
        let mut expected = TARGETS.map(|(name, _)| name.to_string()).to_vec();
        programs.sort();
        expected.sort();
        assert_eq!(programs, expected);
        let mut folders: Vec<String> = fs::read_dir(root().join("corpus"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        folders.sort();
        assert_eq!(folders, expected, "each entry point has a corpus");
    }

    /// A file of the corpus with one to four changes.
    fn mutated(corpus: &[(String, Vec<u8>)], random: &mut SmallRng) -> Vec<u8> {
        let mut bytes = corpus[random.random_range(0..corpus.len())].1.clone();
        for _ in 0..random.random_range(1..=4) {
            change(&mut bytes, corpus, random);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn change(bytes: &mut Vec<u8>, corpus: &[(String, Vec<u8>)], random: &mut SmallRng) {
        if bytes.is_empty() {
            bytes.push(random.random());
            return;
        }
        let at = random.random_range(0..bytes.len());
        let end = (at + random.random_range(1..=32)).min(bytes.len());
        match random.random_range(0..9) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            // A length or an integer in BSON.
            5 => {
                let values = [0, 1, 4, 5, 0x7fff_ffff, u32::MAX, 0x8000_0000, 1 << 24, random.random()];
                let value = values[random.random_range(0..values.len())].to_le_bytes();
                for (byte, new) in bytes[at..].iter_mut().zip(value) {
                    *byte = new;
                }
            }
            // A number in a text.
            6 => {
                let digits = |byte: &u8| byte.is_ascii_digit();
                if let Some(start) = bytes[at..].iter().position(digits).map(|skipped| at + skipped) {
                    let length = bytes[start..].iter().take_while(|byte| digits(byte)).count();
                    let values: [&[u8]; 8] = [
                        b"0",
                        b"-1",
                        b"4294967296",
                        b"9223372036854775807",
                        b"9223372036854775808",
                        b"18446744073709551615",
                        b"1e400",
                        b"262142-01-01T00:00:00Z",
                    ];
                    let value = values[random.random_range(0..values.len())];
                    bytes.splice(start..start + length, value.iter().copied());
                }
            }
            // Nesting deeper than every limit.
            7 => {
                let depth = random.random_range(1..2_000);
                let pairs: [&[u8]; 3] = [b"[", b"{\"a\":", b"\x03a\0"];
                let pair = pairs[random.random_range(0..pairs.len())];
                bytes.splice(at..at, pair.repeat(depth));
            }
            // The end of another file.
            _ => {
                let other = &corpus[random.random_range(0..corpus.len())].1;
                let from = random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}
