//! The checks of the conformance suite for uploads in parts.

use bytes::Bytes;
use futures_util::future::join_all;
use uzima_backup::store::{Store, StoreErrorKind, Whole};

use super::conformance::Backend;
use super::support::{MOST, bytes, part, put_parts, spec, upload, whole};

/// Two whole parts and one byte.
fn body(b: &Backend) -> Bytes {
    bytes(2 * b.part as usize + 1)
}

async fn assert_absent(store: &dyn Store, key: &str) {
    assert_eq!(store.head(key).await.expect("a head"), None);
    assert!(store.list(key).await.expect("a listing").is_empty());
}

pub async fn any_order(b: &Backend) {
    let body = body(b);
    upload(&*b.store, "order/dump", &body, b.part).await.expect("an upload");
    assert_eq!(b.store.get("order/dump", MOST).await.expect("a get"), body);
    let range = b.part - 3..b.part + 5;
    let read = b.store.get_range("order/dump", range.clone()).await.expect("a range");
    assert_eq!(read, body.slice(range.start as usize..range.end as usize));
}

pub async fn parallel(b: &Backend) {
    let body = bytes(4 * b.part as usize);
    let begun = b.store.begin(&spec("parallel/dump", b.part)).await.expect("an upload");
    let puts = (0..4).map(|i| begun.put_part(i, part(&body, b.part, i)));
    assert!(join_all(puts).await.iter().all(Result::is_ok));
    begun.complete(&whole(&body, b.part)).await.expect("a completion");
    assert_eq!(b.store.get("parallel/dump", MOST).await.expect("a get"), body);
}

pub async fn one_part(b: &Backend) {
    let body = bytes(11);
    upload(&*b.store, "one/dump", &body, b.part).await.expect("an upload");
    assert_eq!(b.store.get("one/dump", MOST).await.expect("a get"), body);
}

pub async fn invisible(b: &Backend) {
    let body = body(b);
    let begun = b.store.begin(&spec("invisible/dump", b.part)).await.expect("an upload");
    put_parts(&begun, &body, b.part).await.expect("parts");
    assert_absent(&*b.store, "invisible/dump").await;
    begun.complete(&whole(&body, b.part)).await.expect("a completion");
    assert!(b.store.head("invisible/dump").await.expect("a head").is_some());
    begun.abort().await.expect("an abort after the end does nothing");
    assert!(b.store.head("invisible/dump").await.expect("a head").is_some());
}

pub async fn never_replaces(b: &Backend) {
    let body = body(b);
    b.store.put("taken/dump", Bytes::from_static(b"older")).await.expect("a put");
    let error = upload(&*b.store, "taken/dump", &body, b.part).await.expect_err("the name is taken");
    assert_eq!(error.kind, StoreErrorKind::Exists, "{error}");
    assert_eq!(b.store.get("taken/dump", MOST).await.expect("a get"), "older");
}

pub async fn wrong_whole(b: &Backend) {
    let body = body(b);
    let right = whole(&body, b.part);
    let wrong = [
        Whole { size: right.size + 1, ..right },
        Whole { crc64nvme: right.crc64nvme ^ 1, ..right },
        Whole { parts: right.parts + 1, ..right },
    ];
    for wrong in wrong {
        let begun = b.store.begin(&spec("wrong/dump", b.part)).await.expect("an upload");
        put_parts(&begun, &body, b.part).await.expect("parts");
        let error = begun.complete(&wrong).await.expect_err("it is not what was sent");
        assert_eq!(error.kind, StoreErrorKind::Damaged, "{error}");
        assert_absent(&*b.store, "wrong/dump").await;
    }
}

pub async fn hole(b: &Backend) {
    let body = body(b);
    let begun = b.store.begin(&spec("hole/dump", b.part)).await.expect("an upload");
    for index in [0, 2] {
        begun.put_part(index, part(&body, b.part, index)).await.expect("a part");
    }
    let error = begun.complete(&whole(&body, b.part)).await.expect_err("part 1 is missing");
    assert_eq!(error.kind, StoreErrorKind::Damaged, "{error}");
    assert_absent(&*b.store, "hole/dump").await;
}

pub async fn abort(b: &Backend) {
    let begun = b.store.begin(&spec("abort/dump", b.part)).await.expect("an upload");
    begun.put_part(0, bytes(b.part as usize)).await.expect("a part");
    begun.abort().await.expect("an abort");
    begun.abort().await.expect("another");
    assert!(begun.put_part(1, bytes(1)).await.is_err());
    assert!(begun.complete(&whole(&bytes(b.part as usize), b.part)).await.is_err());
    assert_absent(&*b.store, "abort/dump").await;
}

pub async fn gone(b: &Backend) {
    b.store.abort_left("gone/dump", "0123456789abcdef").await.expect("aborting an unknown upload succeeds");
}

pub async fn too_many(b: &Backend) {
    let begun = b.store.begin(&spec("many/dump", b.part)).await.expect("an upload");
    let limit = b.store.limits().max_parts;
    let error = begun.put_part(limit, bytes(1)).await.expect_err("one too many");
    assert_eq!(error.kind, StoreErrorKind::Full, "{error}");
    begun.abort().await.expect("an abort");
    let mut large = spec("many/dump", b.part);
    large.estimate = Some(u64::from(limit) * b.part + 1);
    assert_eq!(b.store.begin(&large).await.err().expect("one too many").kind, StoreErrorKind::Full);
}
