use super::*;

#[derive(Default)]
struct Collected {
    namespaces: Vec<Namespace>,
    open: Option<usize>,
    documents: Vec<(String, usize)>,
}

impl Sink for Collected {
    fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
        self.namespaces = namespaces;
        Ok(())
    }
    fn begin(&mut self, namespace: usize) -> Result<()> {
        assert!(self.open.is_none());
        self.open = Some(namespace);
        self.documents.push((self.namespaces[namespace].to_string(), 0));
        Ok(())
    }
    fn document(&mut self, _: &[u8]) -> Result<()> {
        self.documents.last_mut().unwrap().1 += 1;
        Ok(())
    }
    fn end(&mut self) -> Result<()> {
        assert!(self.open.take().is_some());
        Ok(())
    }
}

fn recorded(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/mongodump-100.18.0/{name}", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::File::open(path).unwrap();
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut out).unwrap();
    out
}

#[test]
fn a_recorded_archive_with_mixed_collections() {
    let mut got = Collected::default();
    let header = Demux::new(&recorded("full.archive.gz")[..]).run(&|_| true, &mut got).unwrap();
    assert_eq!((header.server_version.as_str(), header.tool_version.as_str()), ("6.0.5", "100.18.0"));
    assert_eq!((got.namespaces.len(), got.documents.len()), (39, 39));
    let count = |name: &str| got.documents.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!(count("shop.orders"), 1000);
    assert_eq!(count("big.docs"), 3);
    assert_eq!(count("opts.weather"), 3);
    assert_eq!(count("opts.view1"), 0);
    assert_eq!(got.documents[0].0, "admin.system.users");
}

#[test]
fn unwanted_namespaces_are_left_out() {
    let mut got = Collected::default();
    Demux::new(&recorded("full.archive.gz")[..]).run(&|n| n.db == "shop", &mut got).unwrap();
    assert_eq!(got.documents, [("shop.orders".to_string(), 1000), ("shop.system.js".to_string(), 1)]);
}

#[test]
fn truncations_are_found() {
    let whole = recorded("full.archive.gz");
    let near = (0..2_000).chain((2_000..40_000).step_by(41));
    for cut in near.chain([whole.len() - 1, whole.len() - 5, whole.len() / 2]) {
        let result = Demux::new(&whole[..cut]).run(&|_| true, &mut Collected::default());
        assert!(result.is_err(), "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_of_a_document_is_found() {
    let mut bytes = recorded("oplog.archive.gz");
    let at = bytes.windows(6).position(|w| w == b"total\0").unwrap() + 8;
    bytes[at] ^= 1;
    let error = Demux::new(&bytes[..]).run(&|_| true, &mut Collected::default()).unwrap_err();
    assert!(error.to_string().contains("shop.orders"), "{error}");
}
