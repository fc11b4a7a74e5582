//! Small files that expand to gigabytes. The tool runs with less memory than the expanded data.

use std::process::Command;

use tar::{EntryType, Header};
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, Ran, TOOL, run};

/// The address space of the tool, in KiB.
const MEMORY: u64 = 1_500_000;

/// Makes zstd frames of `piece` that expand to 2 GiB.
fn bomb(piece: u8) -> Vec<u8> {
    zstd::bulk::compress(&vec![piece; 1 << 20], 3).expect("a frame").repeat(2048)
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).expect("a frame")
}

/// Runs the tool with this address space.
fn limited(tool: &mut Command, args: &[&str]) -> Ran {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$TOOL\" \"$@\""), "sh"]).args(args);
    shell.env_clear().current_dir("/").env("TOOL", TOOL);
    shell.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(&mut shell)
}

async fn backup() -> (Mongod, Home, Manifest) {
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_many((0..200).map(|n| bson::doc! {"_id": n})).await.expect("rows");
    let home = Home::new();
    run(home.to_dir(&server.uri()).args(["backup", "--job", "nightly", "--format", "tar.zst"])).ends(0);
    let manifest = home.manifests().pop().expect("a manifest");
    (server, home, manifest)
}

fn write(home: &Home, manifest: &Manifest) {
    let path = home.backups().join(uzima_backup::catalog::layout::manifest(&manifest.id));
    std::fs::write(path, manifest.encode().expect("JSON")).expect("a file");
}

#[tokio::test]
async fn an_index_that_expands_to_gigabytes_is_reported_as_damage() {
    let (server, home, mut manifest) = backup().await;
    for index in [bomb(b' '), [frame(br#"{"format":1,"id":""#), bomb(b'x')].concat()] {
        std::fs::write(home.backups().join(&manifest.index.key), &index).expect("a file");
        manifest.index.size = index.len() as u64;
        manifest.index.blake3 = blake3::hash(&index).to_hex().to_string();
        write(&home, &manifest);
        let verify = limited(&mut home.to_dir(&server.uri()), &["verify", "latest"]).ends(4);
        assert!(verify.stdout.contains("longer than 128.0 MiB"), "{}", verify.stdout);
        let mut tool = home.to_dir(&server.uri());
        tool.env("RESTORE_URI", server.uri());
        let restore = limited(&mut tool, &["restore", "latest", "--dry-run"]);
        assert!(matches!(restore.code, Some(1 | 4)), "{:?} {}", restore.code, restore.stderr);
    }
}

#[tokio::test]
async fn a_manifest_of_gigabytes_is_reported_as_damage_and_hides_no_other_backup() {
    let (server, home, manifest) = backup().await;
    let id = "20200101T000000Z-aaaaaa";
    let folder = home.backups().join("2020/01").join(id);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::File::create(folder.join("manifest.json"))
        .and_then(|file| file.set_len(4 << 30))
        .expect("a file");
    std::fs::File::create(folder.join("pin.json")).and_then(|file| file.set_len(4 << 30)).expect("a file");
    std::fs::File::create(folder.join("verified-20200102T000000Z.json"))
        .and_then(|file| file.set_len(4 << 30))
        .expect("a file");
    let list = limited(&mut home.to_dir(&server.uri()), &["list"]).ends(4);
    assert!(list.stdout.contains(id) && list.stdout.contains("unreadable manifest: "), "{}", list.stdout);
    assert!(list.stdout.contains(manifest.id.as_str()), "{}", list.stdout);
    let verify = limited(&mut home.to_dir(&server.uri()), &["verify", "--all"]).ends(4);
    assert!(verify.stdout.contains(&format!("sound    {}", manifest.id)), "{}", verify.stdout);
    limited(&mut home.to_dir(&server.uri()), &["backup", "--job", "nightly"]).ends(0);
}

/// A tar with one header of this type and size, whose content never ends.
fn tar_of(kind: EntryType, name: &str, size: u64) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(name).expect("a name");
    header.set_size(size);
    header.set_cksum();
    [frame(header.as_bytes()), bomb(b'{'), frame(&[0; 1024])].concat()
}

#[tokio::test]
async fn a_dump_that_expands_to_gigabytes_is_reported_as_damage() {
    let (server, home) = (Mongod::builder().start().await.expect("mongod"), Home::new());
    let mut prelude = vec![frame(
        &[
            &0x8199_e26d_u32.to_le_bytes()[..],
            bson::rawdoc! {"concurrent_collections": 1, "version": "0.1", "server_version": "6.0.5", "tool_version": "x"}
                .as_bytes(),
        ]
        .concat(),
    )];
    let spaces = " ".repeat(1 << 20);
    prelude.extend((0..2_000).map(|n| {
        let collection = format!("c{n}");
        frame(
            bson::rawdoc! {"db": "d", "collection": collection, "metadata": spaces.as_str(), "size": 0}
                .as_bytes(),
        )
    }));
    for (name, dump, why) in [
        ("a long name", tar_of(EntryType::GNULongName, "x", 1 << 42), "longer than 1.0 MiB"),
        ("PAX records", tar_of(EntryType::XHeader, "x", 1 << 42), "longer than 1.0 MiB"),
        ("metadata", tar_of(EntryType::Regular, "dump/d/c.metadata.json", 1 << 31), "longer than 64.0 MiB"),
        ("an archive's list", prelude.concat(), "longer than 256.0 MiB"),
        ("a document", tar_of(EntryType::Regular, "dump/d/c.bson", 1 << 31), "not a BSON document"),
    ] {
        let path = home.path().join("dump.zst");
        std::fs::write(&path, dump).expect("a file");
        let mut tool = home.tool();
        tool.env("RESTORE_URI", server.uri());
        let path = path.to_str().expect("UTF-8");
        let ran = limited(&mut tool, &["restore", "--from", path, "--dry-run"]).ends(4);
        assert!(ran.stderr.contains(why), "{name}: {}", ran.stderr);
    }
}
