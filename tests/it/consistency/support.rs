//! A replica set with one member behind a proxy, and ways to restore a backup of it.

use std::path::Path;
use std::process::{Command, Stdio};

use bson::{RawDocument, RawDocumentBuf};
use mongodb::Client;
use uzima_backup::model::manifest::{Manifest, OplogSlice};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;
use uzima_testkit::wire_proxy::WireProxy;

use crate::cli::contents::tar_files;
use crate::cli::support::{decompressed, run};
use crate::native::decode::split;
use crate::restore::support::Backup;

/// A set with one member, a proxy in front of it, and a client that bypasses the proxy.
pub async fn set() -> (Mongod, WireProxy, Client) {
    let server = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let (proxy, client) = behind(&server).await;
    (server, proxy, client)
}

/// A proxy in front of a server, and a client that bypasses it.
pub async fn behind(server: &Mongod) -> (WireProxy, Client) {
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    (proxy, server.client().await.expect("a client"))
}

/// The slice of a backup that must have one.
pub fn slice(manifest: &Manifest) -> &OplogSlice {
    let consistency = &manifest.consistency;
    assert_eq!(consistency.achieved, "oplog", "{}", consistency.why);
    let slice = consistency.oplog.as_ref().expect("a slice");
    assert_eq!(consistency.at, Some(slice.end));
    assert!(slice.start <= slice.end, "{slice:?}");
    slice
}

/// The entries of the slice in a tar.
pub fn entries(manifest: &Manifest, artifact: &[u8]) -> Vec<RawDocumentBuf> {
    let entries = split(&tar_files(&decompressed(manifest, artifact))["dump/oplog.bson"]);
    assert_eq!(entries.len() as u64, slice(manifest).entries);
    entries.into_iter().map(|bytes| RawDocumentBuf::from_bytes(bytes).expect("BSON")).collect()
}

/// The operations with their namespaces. Operations inside `applyOps` stand in its place: `i shop.orders`, `c
/// shop.$cmd drop a`.
pub fn operations(entries: &[RawDocumentBuf]) -> Vec<String> {
    fn tell(operation: &RawDocument, out: &mut Vec<String>) {
        let field = |name| operation.get_str(name).expect("a string");
        let (op, ns) = (field("op"), field("ns"));
        let command = operation.get_document("o").expect("a document");
        if let Ok(operations) = command.get_array("applyOps") {
            return operations.into_iter().for_each(|o| tell(o.unwrap().as_document().unwrap(), out));
        }
        let (name, value) = command.iter().next().map_or(("", None), |e| {
            let (name, value) = e.expect("a field");
            (name.as_str(), value.as_str())
        });
        out.push(match op {
            "c" => format!("{op} {ns} {name} {}", value.unwrap_or_default()),
            _ => format!("{op} {ns}"),
        });
    }
    let mut out = Vec::new();
    entries.iter().for_each(|entry| tell(entry, &mut out));
    out
}

/// A server into which the tool restored the backup.
pub async fn by_restore(backup: &Backup) -> (Mongod, Client) {
    let target = Mongod::builder().replica_set("target").start().await.expect("mongod");
    run(&mut backup.restore_into(&target)).ends(0);
    let client = target.client().await.expect("a client");
    (target, client)
}

/// A server into which mongorestore restored the backup, as RECOVERY.txt says, with these additional flags.
pub async fn by_mongorestore(backup: &Backup, tools: &Official, flags: &[&str]) -> (Mongod, Client) {
    let target = Mongod::builder().replica_set("target").cache_gb(1.0).start().await.expect("mongod");
    let artifact = std::fs::read(backup.artifact()).expect("an artifact");
    let raw = decompressed(&backup.manifest, &artifact);
    let folder = backup.home.path().join(format!("unpacked-{}", target.port()));
    std::fs::create_dir(&folder).expect("a folder");
    let mut restore = Command::new(&tools.mongorestore);
    restore.args(["--uri", &target.uri(), "--bypassDocumentValidation"]).args(flags).stdin(Stdio::null());
    if backup.manifest.artifact.format.starts_with("tar") {
        tar::Archive::new(&raw[..]).unpack(&folder).expect("a tar");
        let text = std::fs::read_to_string(folder.join("RECOVERY.txt")).expect("RECOVERY.txt");
        assert!(text.contains(" --oplogReplay --bypassDocumentValidation dump/"), "{text}");
        restore.arg(folder.join("dump"));
    } else {
        restore.arg("--archive").stdin(piped(&folder.join("archive"), &raw));
    }
    let done = restore.output().expect("mongorestore");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let client = target.client().await.expect("a client");
    (target, client)
}

fn piped(path: &Path, bytes: &[u8]) -> std::fs::File {
    std::fs::write(path, bytes).expect("room");
    std::fs::File::open(path).expect("the archive")
}
