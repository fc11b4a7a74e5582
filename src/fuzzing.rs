//! Entry points for fuzzing: each gives bytes to the parsers of one kind of foreign input.
//!
//! `fuzz/` has a libFuzzer target for each, and `tests/it/fuzz.rs` runs the seed corpus and random mutations
//! of it in every test run. An entry point returns normally whether or not the parsers accept the bytes. It
//! panics if a parser panics, or if bytes that were accepted break a property that later code relies on.

use std::collections::BTreeMap;
use std::io::Read;

use bson::{RawDocument, RawDocumentBuf};

use crate::artifact::read;
use crate::base::bounds;
use crate::base::bounds::Structure;
use crate::base::error::Result;
use crate::catalog::run::BackupRun;
use crate::catalog::verdict::Verdict;
use crate::config::selection::Selection;
use crate::dumpformat::demux::{Demux, whole_documents};
use crate::dumpformat::extjson;
use crate::dumpformat::extjson::Json;
use crate::dumpformat::{Sink, metadata};
use crate::model::index::Index;
use crate::model::manifest::Manifest;
use crate::model::namespace::{Namespace, Type};
use crate::model::optime::OpTime;
use crate::mongo::commands::Unfit;
use crate::mongo::{commands, meaning};
use crate::ops::restore::RestoreFilter;
use crate::ops::restore::dump::files;
use crate::ops::restore::dump::{Content, legacy_dumps};
use crate::ops::restore::filter::ReplayFilter;
use crate::ops::restore::replay::script::Script;
use crate::restore_target::legacy_indexes;
use crate::source::native::cursor;
use crate::source::oplog::filter::OplogFilter;

/// An entry point.
pub type Target = fn(&[u8]);

/// Every entry point under the name of its libFuzzer target and of its folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 8] = [
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

/// A manifest, and the other JSON objects of a store.
fn manifest(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Verdict>(bytes);
    let Ok(manifest) = Manifest::decode(bytes) else { return };
    let _ = (manifest.source.needs(), manifest.collapsed(), manifest.slice_place());
    let _ = BackupRun::completed(&manifest, "s3://bucket/");
    for place in 0..=manifest.namespaces.len() + 1 {
        let _ = manifest.name(place);
    }
    let again = manifest.encode().expect("a manifest that was read can be written");
    assert_eq!(Manifest::decode(&again).as_ref(), Ok(&manifest), "what was written is read back");
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
    let Ok(manifest) = Manifest::decode(include_bytes!("../fuzz/corpus/manifest/of-a-tar-with-a-slice.json"))
    else {
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
    let mixed = Demux::new(bytes).mixed().run(&|_| true, &mut Checked::default());
    let mut sink = Checked::default();
    let ordered = Demux::new(bytes).run(&|_| true, &mut sink);
    assert!(ordered.is_err() || mixed.is_ok(), "what one reader accepts the other one accepts");
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
    extjson::write_document(&mut written, &document).expect("what was read can be written");
    let again = Json::parse(&written).expect("what was written is JSON");
    let again = again.document().expect("and Extended JSON").expect("and a document");
    let mut second = String::new();
    extjson::write_document(&mut second, &again).expect("what was read can be written");
    assert_eq!(written, second, "writing, reading and writing again changes nothing");
}

/// Oplog entries, one after the other.
fn oplog(bytes: &[u8]) {
    let selection = Selection::default();
    let mut filter = OplogFilter::new(&selection, OpTime { t: 1, i: 1 });
    let names = ReplayFilter { filter: RestoreFilter::default(), users: true };
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
                metadata::parse("db", "collection", &text).expect("what was rendered is read back");
            assert_eq!(namespace.indexes.len(), 1);
        }
    }
}

/// Brings a namespace that was read into the form in which it is restored.
fn check_namespace(namespace: &mut Namespace) {
    let _ = legacy_dumps::tidy(namespace);
    let all: Vec<&RawDocumentBuf> = std::iter::once(&namespace.options).chain(&namespace.indexes).collect();
    for document in all {
        let _ = (meaning::same_index(document, document), meaning::same_options(document, document));
        let mut text = String::new();
        let _ = extjson::write_document(&mut text, document);
    }
}

/// Checks that a reader keeps the order of [`Sink`].
#[derive(Default)]
struct Checked {
    namespaces: Vec<Namespace>,
    open: Option<usize>,
}

impl Sink for Checked {
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
