use std::io::Write;

use anyhow::Result;
use uzima_testkit::load::{self, Load, Orders};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;

#[test]
fn orders_have_realistic_sizes_and_compression_ratios() -> Result<()> {
    let mut orders = Orders::new(7);
    let bytes: Vec<u8> = (0..5000).flat_map(|_| orders.next_document()).collect();
    let mean = bytes.len() / 5000;
    assert!((620..780).contains(&mean), "{mean} bytes each");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(&bytes)?;
    let ratio = bytes.len() as f64 / gzip.finish()?.len() as f64;
    assert!((2.5..3.0).contains(&ratio), "gzip makes it {ratio:.2} times smaller");
    Ok(())
}

#[tokio::test]
async fn the_same_seed_writes_the_same_documents_and_counts_them() -> Result<()> {
    let server = Mongod::builder().start().await?;
    let client = server.client().await?;
    let small = Load { orders: 20_000, rows: 3000, tiny: 12, blobs: 40, ..Load::default() };
    let written = load::fill(&client, &small).await?;
    let first = read_all(&client).await?;
    assert_eq!(first.namespaces.len() as u64, written.collections);
    assert_eq!(first.documents() as u64, written.documents);
    assert_eq!(written.documents, 20_000 + 2 * 3000 + 45 + 1 + 40);
    let bytes: usize = first.namespaces.values().flat_map(|n| &n.documents).map(Vec::len).sum();
    assert_eq!(bytes as u64, written.bytes);

    assert_eq!(load::fill(&client, &small).await?, written);
    assert_eq!(first.diff(&read_all(&client).await?), Vec::<String>::new());
    load::fill(&client, &Load { seed: 2, ..small }).await?;
    assert!(first.diff(&read_all(&client).await?).len() >= 3);

    let many = load::many_tiny(&client, 30).await?;
    assert_eq!((many.collections, many.documents), (30, 30));
    Ok(())
}
