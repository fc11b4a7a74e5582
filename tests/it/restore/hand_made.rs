//! Hand-made dumps: folders, tars and archives like those of old versions and of other tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use bson::{RawDocumentBuf, rawdoc};
use crc_fast::CrcAlgorithm::Crc64Xz;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, run};

/// `restore --from PATH` into a server, without a terminal.
pub fn from(home: &Home, path: &Path, target: &Mongod) -> Command {
    let mut command = home.tool();
    command.env("RESTORE_URI", target.uri()).args(["restore", "--yes", "--from"]).arg(path);
    command
}

/// Writes a file of a dump below `dump/` of a home.
pub fn file(home: &Home, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = home.path().join("dump").join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, content).expect("a file");
    path
}

/// Documents `{_id, text}` as a `.bson` file stores them.
pub fn documents(ids: std::ops::Range<i32>, text: &str) -> Vec<u8> {
    ids.flat_map(|id| rawdoc! {"_id": id, "text": text}.into_bytes()).collect()
}

/// Runs tar in a home.
pub fn tar(home: &Home, args: &[&str]) {
    run(Command::new("tar").current_dir(home.path()).args(args)).ends(0);
}

/// An archive with these namespaces: database, collection, metadata, documents.
pub fn archive(namespaces: &[(&str, &str, &str, Vec<RawDocumentBuf>)]) -> Vec<u8> {
    let end = [0xff; 4];
    let mut out = 0x8199_e26d_u32.to_le_bytes().to_vec();
    let header = rawdoc! {
        "concurrent_collections": 1, "version": "0.1", "server_version": "2.6.12", "tool_version": "3.0.15",
    };
    out.extend(header.as_bytes());
    for (db, collection, metadata, _) in namespaces {
        let meta = rawdoc! {"db": *db, "collection": *collection, "metadata": *metadata, "size": 0};
        out.extend(meta.as_bytes());
    }
    out.extend(end);
    for (db, collection, _, documents) in namespaces {
        let block =
            |eof: bool, crc: i64| rawdoc! {"db": *db, "collection": *collection, "EOF": eof, "CRC": crc};
        let bytes: Vec<u8> = documents.iter().flat_map(|document| document.as_bytes()).copied().collect();
        out.extend(block(false, 0).as_bytes());
        out.extend(&bytes);
        out.extend(end);
        out.extend(block(true, crc_fast::checksum(Crc64Xz, &bytes) as i64).as_bytes());
        out.extend(end);
    }
    out
}
