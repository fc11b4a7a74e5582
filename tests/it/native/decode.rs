//! Reads an artifact with plain gzip, zstd and tar, and mongodump's archive by its specification, as a person
//! without the tool would.

use std::collections::BTreeMap;
use std::io::Read;

use bson::RawDocument;

/// The contents of an artifact, by `database.collection`.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Raw documents in their order. Those of a time series are under its `system.buckets.…`.
    pub documents: BTreeMap<String, Vec<Vec<u8>>>,
    /// The text of each `metadata.json`.
    pub metadata: BTreeMap<String, String>,
    /// The paths in a tar, in their order.
    pub paths: Vec<String>,
}

impl Decoded {
    pub fn get(&self, namespace: &str) -> &[Vec<u8>] {
        self.documents
            .get(namespace)
            .unwrap_or_else(|| panic!("no {namespace} in {:?}", self.documents.keys()))
    }
}

/// Decodes a whole artifact.
pub fn decode(bytes: &[u8], format: &str) -> Decoded {
    let (container, codec) = format.split_once('.').expect("container.codec");
    let plain = decompress(bytes, codec);
    match container {
        "tar" => tar(&plain),
        _ => archive(&plain),
    }
}

/// Decompresses a sequence of gzip members or zstd frames.
pub fn decompress(bytes: &[u8], codec: &str) -> Vec<u8> {
    let mut plain = Vec::new();
    match codec {
        "gz" => drop(flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).expect("gzip")),
        _ => plain = zstd::decode_all(bytes).expect("zstd"),
    }
    plain
}

/// Splits a sequence of BSON documents.
pub fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (document, rest) = bytes.split_at(length(bytes));
        assert_eq!(document.last(), Some(&0), "a document does not end in zero");
        out.push(document.to_vec());
        bytes = rest;
    }
    out
}

fn length(bytes: &[u8]) -> usize {
    i32::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize
}

fn tar(plain: &[u8]) -> Decoded {
    let mut out = Decoded::default();
    let mut bodies = BTreeMap::new();
    for entry in tar::Archive::new(plain).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = String::from_utf8(entry.path_bytes().into_owned()).expect("UTF-8");
        let mut body = Vec::new();
        entry.read_to_end(&mut body).expect("a body");
        assert_eq!(bodies.insert(path.clone(), body), None, "{path} twice");
        out.paths.push(path);
    }
    for (path, body) in bodies {
        let Some((db, file)) = path.strip_prefix("dump/").and_then(|path| path.split_once('/')) else {
            continue;
        };
        if let Some(name) = file.strip_suffix(".metadata.json") {
            let text = String::from_utf8(body).expect("UTF-8");
            let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let collection = json["collectionName"].as_str().expect("a name");
            assert_name(name, collection);
            out.metadata.insert(format!("{db}.{collection}"), text);
        } else if let Some(name) = file.strip_suffix(".bson") {
            out.documents.insert(format!("{db}.{}", unescape(name)), split(&body));
        }
    }
    out.rename_cut();
    out
}

impl Decoded {
    /// A truncated file name names its collection only in its metadata.
    fn rename_cut(&mut self) {
        let cut: Vec<String> = self.documents.keys().filter(|n| !self.is_known(n)).cloned().collect();
        for name in cut {
            let start =
                name.split('$').next().expect("a part").trim_end_matches(['%', '\u{fffd}']).to_owned();
            let whole: Vec<String> =
                self.metadata.keys().filter(|n| n.len() > 200 && n.starts_with(&start)).cloned().collect();
            assert_eq!(whole.len(), 1, "{name}: {whole:?}");
            let documents = self.documents.remove(&name).expect("it is there");
            self.documents.insert(whole[0].clone(), documents);
        }
    }

    fn is_known(&self, namespace: &str) -> bool {
        self.metadata.contains_key(&namespace.replacen(".system.buckets.", ".", 1))
    }
}

/// Asserts that a file has the name of its collection, escaped as in a URL's query. A long name is truncated
/// and hashed.
fn assert_name(file: &str, collection: &str) {
    let name = unescape(file);
    let cut = name.contains('$') && file.len() == 238;
    assert!(name == collection || cut, "{file} for {collection:?}");
}

fn unescape(file: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = file.bytes();
    while let Some(byte) = rest.next() {
        let hex = rest.as_slice_of(2);
        match (byte, hex) {
            (b'+', _) => bytes.push(b' '),
            (b'%', Some(hex)) => {
                bytes.push(hex);
                rest.nth(1);
            }
            (byte, _) => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

trait Hex {
    /// Parses the next `n` bytes as a hexadecimal number.
    fn as_slice_of(&self, n: usize) -> Option<u8>;
}

impl Hex for std::str::Bytes<'_> {
    fn as_slice_of(&self, n: usize) -> Option<u8> {
        let text: Vec<u8> = self.clone().take(n).collect();
        u8::from_str_radix(std::str::from_utf8(&text).ok()?, 16).ok()
    }
}

/// mongo-tools, `common/archive/archive.go`: magic, header, metadata, terminator, and then blocks.
fn archive(plain: &[u8]) -> Decoded {
    const TERMINATOR: [u8; 4] = [0xff; 4];
    let mut out = Decoded::default();
    assert_eq!(plain[..4], 0x8199_e26d_u32.to_le_bytes());
    let mut rest = &plain[4..];
    let mut next = || {
        if rest[..4] == TERMINATOR {
            rest = &rest[4..];
            return None;
        }
        let (document, after) = rest.split_at(length(rest));
        rest = after;
        Some((document, rest.is_empty()))
    };
    next().expect("the header");
    while let Some((document, _)) = next() {
        let row = RawDocument::from_bytes(document).expect("BSON");
        let text = |key: &str| row.get_str(key).expect(key).to_owned();
        out.metadata.insert(format!("{}.{}", text("db"), text("collection")), text("metadata"));
    }
    let mut open = out.metadata.len();
    // Each namespace, also a view, ends with an end-of-namespace block.
    while open > 0 {
        let (header, _) = next().expect("a block");
        let header = RawDocument::from_bytes(header).expect("BSON");
        let text = |key: &str| header.get_str(key).expect(key);
        let documents = out.documents.entry(format!("{}.{}", text("db"), text("collection"))).or_default();
        while let Some((document, _)) = next() {
            documents.push(document.to_vec());
        }
        open -= usize::from(header.get_bool("EOF").expect("EOF"));
    }
    assert!(rest.is_empty(), "{} bytes follow the last namespace", rest.len());
    out
}
