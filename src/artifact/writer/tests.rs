use std::io::Read;

use super::*;
use crate::artifact::out::testing;
use crate::artifact::pack::{Packer, Pool};
use crate::base::waits::Waits;
use crate::dumpformat::demux::Demux;
use crate::dumpformat::{Sink, metadata};

/// Writes an artifact of one namespace with two documents and a slice with three entries.
fn with_slice(format: &str) -> (WrittenArtifact, Vec<u8>) {
    let format: Format = format.parse().unwrap();
    let codec = format.codec;
    let encode = || {
        let mut encoder = codec.encoder()?;
        Ok(Box::new(move |raw: &[u8], out: &mut Vec<u8>| encoder.encode(raw, out)) as _)
    };
    let pool = Pool::start(1, 1 << 20, true, encode, || None).unwrap();
    let (mut packer, steps) = Packer::new(pool, 100, Waits::default());
    packer.prelude(vec![metadata::parse("d", "c", "{}").unwrap(), Namespace::oplog()]).unwrap();
    for (at, documents) in [(0, 2), (1, 3)] {
        packer.begin(at).unwrap();
        (0..documents).for_each(|n| packer.document(rawdoc! {"n": n}.as_bytes()).unwrap());
        packer.end().unwrap();
    }
    packer.finish().unwrap();
    let spec = ArtifactSpec {
        format,
        server_version: "6.0.5".into(),
        tool_version: "test".into(),
        started: 0,
        recovery: "read me".into(),
    };
    let (out, taken) = Out::collecting(codec);
    let written = write(&steps, &spec, out, &Meter::default()).unwrap();
    let bytes = testing::bytes(taken);
    let mut raw = Vec::new();
    match codec {
        Codec::Gzip { .. } => flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut raw).unwrap(),
        Codec::Zstd { .. } => zstd::Decoder::new(&bytes[..]).unwrap().read_to_end(&mut raw).unwrap(),
    };
    (written, raw)
}

#[test]
fn the_slice_is_not_listed_among_the_namespaces() {
    let (written, _) = with_slice("tar.zst");
    assert_eq!((written.namespaces.len(), written.tallies.len()), (1, 1));
    assert_eq!((written.tallies[0].documents, written.slice.unwrap().documents), (2, 3));
    assert_eq!(written.segments.iter().map(|s| s.namespace).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_tar_has_the_slice_where_mongorestore_looks_for_it() {
    let (_, raw) = with_slice("tar.gz");
    let mut archive = tar::Archive::new(&raw[..]);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (String::from_utf8(entry.path_bytes().to_vec()).unwrap(), entry.size())
    });
    let bson: Vec<_> = entries.filter(|(path, _)| !path.ends_with("json")).collect();
    let size = rawdoc! {"n": 1}.as_bytes().len() as u64;
    let want = [("RECOVERY.txt", 7), ("dump/d/c.bson", 2 * size), ("dump/oplog.bson", 3 * size)];
    assert_eq!(bson, want.map(|(path, size)| (path.to_string(), size)));
}

#[test]
fn an_archive_announces_the_slice_as_mongodump_does() {
    let (_, raw) = with_slice("archive.gz");
    let announced = bson::doc! {"db": "", "collection": "oplog", "metadata": "", "size": 0, "type": ""};
    let announced = bson::serialize_to_vec(&announced).unwrap();
    assert!(raw.windows(announced.len()).any(|bytes| bytes == announced));

    #[derive(Default)]
    struct SeenDocuments(Vec<Namespace>, Vec<(usize, u64)>);
    impl Sink for SeenDocuments {
        fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
            self.0 = namespaces;
            Ok(())
        }
        fn begin(&mut self, namespace: usize) -> Result<()> {
            self.1.push((namespace, 0));
            Ok(())
        }
        fn document(&mut self, _: &[u8]) -> Result<()> {
            self.1.last_mut().unwrap().1 += 1;
            Ok(())
        }
        fn end(&mut self) -> Result<()> {
            Ok(())
        }
    }
    let mut seen = SeenDocuments::default();
    Demux::new(&raw[..]).run(&|_| true, &mut seen).unwrap();
    assert_eq!(seen.0[1], Namespace::oplog());
    assert_eq!(seen.1, [(0, 2), (1, 3)]);
}

#[test]
fn the_commands_in_recovery_txt_fit_the_format() {
    for (format, command) in
        [("tar.gz", "tar xzf dump.tar.gz"), ("tar.zst", "zstd -dc dump.tar.zst | tar xf -")]
    {
        for (slice, restore) in [
            (false, "    mongorestore --uri='mongodb://localhost:27017' --bypassDocumentValidation dump/\n"),
            (true, "--uri='mongodb://localhost:27017' --oplogReplay --bypassDocumentValidation dump/\n"),
        ] {
            let text =
                recovery_text("id", format.parse().unwrap(), "6.0.5", "uzima-backup 0.1.0", slice, false);
            assert!(text.contains(command) && text.contains(restore), "{text}");
            assert_eq!(text.contains("oplog"), slice, "{text}");
        }
    }
}

#[test]
fn the_commands_for_an_encrypted_artifact_decrypt_it_first() {
    for (format, command) in [
        ("tar.gz", "    age -d -i KEYFILE dump.tar.gz.age | tar xzf -\n"),
        ("tar.zst", "    age -d -i KEYFILE dump.tar.zst.age | zstd -dc | tar xf -\n"),
        ("archive.gz", "    age -d -i KEYFILE dump.archive.gz.age | gunzip -c |\n"),
        ("archive.zst", "    age -d -i KEYFILE dump.archive.zst.age | zstd -dc |\n"),
    ] {
        for slice in [false, true] {
            let text =
                recovery_text("id", format.parse().unwrap(), "6.0.5", "uzima-backup 0.2.0", slice, true);
            assert!(text.contains(command) && text.contains("encrypted with age"), "{text}");
            assert_eq!(text.contains("--oplogReplay --bypass"), slice, "{text}");
        }
    }
}
