//! The checks that every store must pass. Each check uses its own folder, so all run on the same store.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use uzima_backup::store::{Store, StoreErrorKind};

use super::support::{MOST, bytes};
use super::uploads;

/// A store under test.
pub struct Backend {
    pub store: Arc<dyn Store>,
    /// The size of a part in bytes.
    pub part: u64,
    /// The number of objects that make several pages of a listing.
    pub many: usize,
    /// Counts the uploads or partial files in the store that are not objects.
    pub leftovers: Box<dyn Fn() -> usize + Send + Sync>,
}

type Check = for<'a> fn(&'a Backend) -> BoxFuture<'a, ()>;

/// All checks by name.
const CHECKS: &[(&str, Check)] = &[
    ("small objects", |b| small_objects(b).boxed()),
    ("put replaces", |b| put_replaces(b).boxed()),
    ("many objects are deleted at once", |b| many_deleted(b).boxed()),
    ("a tag changes with the object", |b| tags(b).boxed()),
    ("what is missing", |b| missing(b).boxed()),
    ("create never replaces", |b| create_only(b).boxed()),
    ("one of many creators wins", |b| creators(b).boxed()),
    ("ranges", |b| ranges(b).boxed()),
    ("pages", |b| pages(b).boxed()),
    ("neighbours are not listed", |b| neighbours(b).boxed()),
    ("odd names", |b| odd_names(b).boxed()),
    ("keys that climb are refused", |b| bad_keys(b).boxed()),
    ("the store is there and knows the time", |b| there(b).boxed()),
    ("parts in any order", |b| uploads::any_order(b).boxed()),
    ("parts at the same time", |b| uploads::parallel(b).boxed()),
    ("one small part", |b| uploads::one_part(b).boxed()),
    ("invisible until complete", |b| uploads::invisible(b).boxed()),
    ("complete never replaces", |b| uploads::never_replaces(b).boxed()),
    ("complete holds the store to the whole", |b| uploads::wrong_whole(b).boxed()),
    ("a hole is found", |b| uploads::hole(b).boxed()),
    ("abort leaves nothing", |b| uploads::abort(b).boxed()),
    ("an upload that is gone can be aborted", |b| uploads::gone(b).boxed()),
    ("more parts than allowed", |b| uploads::too_many(b).boxed()),
];

/// Runs all checks and returns their number.
pub async fn run(backend: Backend) -> usize {
    for (name, check) in CHECKS {
        std::panic::AssertUnwindSafe(check(&backend))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| panic!("`{name}` fails on {:?}", backend.store));
        assert_eq!((backend.leftovers)(), 0, "`{name}` leaves something behind on {:?}", backend.store);
    }
    CHECKS.len()
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    let listed = store.list(prefix).await.expect("a listing");
    listed.into_iter().map(|object| object.key).collect()
}

async fn small_objects(b: &Backend) {
    for body in [Bytes::new(), Bytes::from_static(b"{}"), bytes(100_000)] {
        b.store.put("small/object.json", body.clone()).await.expect("a put");
        assert_eq!(b.store.get("small/object.json", MOST).await.expect("a get"), body);
        let head = b.store.head("small/object.json").await.expect("a head").expect("an object");
        assert_eq!((head.key.as_str(), head.size), ("small/object.json", body.len() as u64));
        let age = chrono::Utc::now() - head.modified;
        assert!(age.num_seconds().abs() < 60, "the object's time is {}", head.modified);
        // HTTP dates have no fractions of a second. Listings may have them.
        let listed = b.store.list("small/").await.expect("a listing");
        assert_eq!(listed.iter().map(|o| (&o.key, o.size)).collect::<Vec<_>>(), [(&head.key, head.size)]);
        assert!((listed[0].modified - head.modified).num_seconds().abs() < 2);
    }
    b.store.delete("small/object.json").await.expect("a delete");
    b.store.delete("small/object.json").await.expect("deleting again is a success");
    assert_eq!(b.store.head("small/object.json").await.expect("a head"), None);
    assert_eq!(keys(&*b.store, "small/").await, Vec::<String>::new());
}

async fn put_replaces(b: &Backend) {
    b.store.put("put/a", Bytes::from_static(b"first, longer")).await.expect("a put");
    b.store.put("put/a", Bytes::from_static(b"second")).await.expect("another");
    assert_eq!(b.store.get("put/a", MOST).await.expect("a get"), "second");
}

async fn many_deleted(b: &Backend) {
    let all: Vec<String> = (0..b.many).map(|i| format!("many/{}/{i}", i % 7)).collect();
    for some in all.chunks(16) {
        let puts = join_all(some.iter().map(|key| b.store.put(key, Bytes::from_static(b"x"))));
        assert!(puts.await.iter().all(Result::is_ok));
    }
    let (kept, mut gone) = (&all[0], all[1..].to_vec());
    gone.push("many/nothing".into());
    let answers = b.store.delete_all(&gone).await;
    assert!(answers.len() == gone.len() && answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(keys(&*b.store, "many/").await, [kept.as_str()]);
    // An invalid key does not keep the other keys from being deleted.
    let answers = b.store.delete_all(&["../up".into(), kept.clone(), kept.clone()]).await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(keys(&*b.store, "many/").await, Vec::<String>::new());
}

async fn tags(b: &Backend) {
    let tag = async || b.store.list("tags/").await.expect("a listing").remove(0).tag.expect("a tag");
    b.store.put("tags/a", Bytes::from_static(b"first")).await.expect("a put");
    let first = tag().await;
    assert_eq!(tag().await, first);
    let head = b.store.head("tags/a").await.expect("a head").expect("an object");
    assert_eq!(head.tag, Some(first.clone()));
    b.store.put("tags/a", Bytes::from_static(b"other")).await.expect("a put");
    assert_ne!(tag().await, first);
}

async fn missing(b: &Backend) {
    assert_eq!(b.store.get("missing/a", MOST).await.expect_err("nothing").kind, StoreErrorKind::NotFound);
    assert_eq!(
        b.store.get_range("missing/a", 0..1).await.expect_err("nothing").kind,
        StoreErrorKind::NotFound
    );
    assert_eq!(b.store.head("missing/a").await.expect("a head"), None);
    b.store.delete("missing/folder/a").await.expect("a delete");
    assert!(b.store.list("missing/").await.expect("a listing").is_empty());
}

async fn create_only(b: &Backend) {
    b.store.create("create/manifest.json", Bytes::from_static(b"ours")).await.expect("a create");
    b.store.create("create/manifest.json", Bytes::from_static(b"ours")).await.expect("the same bytes");
    for other in ["theirs", "our", "ours and more", ""] {
        let error = b.store.create("create/manifest.json", Bytes::from(other)).await.expect_err("it exists");
        assert_eq!(error.kind, StoreErrorKind::Exists, "{error}");
    }
    assert_eq!(b.store.get("create/manifest.json", MOST).await.expect("a get"), "ours");
}

async fn creators(b: &Backend) {
    let created =
        join_all((0..8).map(|i| b.store.create("creators/a", Bytes::from(format!("body {i}"))))).await;
    let winners: Vec<_> = (0..8).filter(|i| created[*i].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{created:?}");
    let losers = created.iter().filter_map(|c| c.as_ref().err());
    assert!(losers.into_iter().all(|e| e.kind == StoreErrorKind::Exists), "{created:?}");
    assert_eq!(b.store.get("creators/a", MOST).await.expect("a get"), format!("body {}", winners[0]));
}

async fn ranges(b: &Backend) {
    let body = bytes(1_000);
    b.store.put("ranges/a", body.clone()).await.expect("a put");
    for range in [0..1, 0..1_000, 999..1_000, 17..517, 5..5] {
        let read = b.store.get_range("ranges/a", range.clone()).await.expect("a range");
        assert_eq!(read, body.slice(range.start as usize..range.end as usize));
    }
    for range in [990..1_001, 1_000..1_001, 5_000..6_000] {
        let error = b.store.get_range("ranges/a", range.clone()).await.expect_err("it ends before");
        assert_eq!(error.kind, StoreErrorKind::Damaged, "{range:?}: {error}");
    }
}

async fn pages(b: &Backend) {
    let mut expected: Vec<String> = (0..b.many).map(|i| format!("pages/{}/{i}", i % 7)).collect();
    for some in expected.chunks(16) {
        let puts = join_all(some.iter().map(|key| b.store.put(key, Bytes::from_static(b"x"))));
        assert!(puts.await.iter().all(Result::is_ok));
    }
    expected.sort();
    assert_eq!(keys(&*b.store, "pages/").await, expected);
    let third: Vec<_> = expected.iter().filter(|k| k.starts_with("pages/3/")).cloned().collect();
    assert_eq!(keys(&*b.store, "pages/3/").await, third);
    assert_eq!(keys(&*b.store, "pages/3/1").await, {
        let begins = third.iter().filter(|k| k.starts_with("pages/3/1"));
        begins.cloned().collect::<Vec<_>>()
    });
}

async fn neighbours(b: &Backend) {
    for key in ["near/2026/a", "near/2026-old/b", "near/20260/c", "near/2026.txt"] {
        b.store.put(key, Bytes::from_static(b"x")).await.expect("a put");
    }
    assert_eq!(keys(&*b.store, "near/2026/").await, ["near/2026/a"]);
    assert_eq!(keys(&*b.store, "near/2026").await.len(), 4);
    assert!(keys(&*b.store, "").await.contains(&"near/2026.txt".to_owned()));
}

async fn odd_names(b: &Backend) {
    let names = [
        "a b",
        "c+d",
        "e%2Ff",
        "g&h=i",
        "j<k>",
        "\u{e9}\u{2603}\u{1f980}",
        "l'm\"n",
        "o!p*q(r)",
        "~s,t;u:v@w$",
        "x#y?z",
    ];
    let mut expected: Vec<String> = names.iter().map(|name| format!("odd/{name}/{name}")).collect();
    for key in &expected {
        b.store.create(key, Bytes::from(key.clone())).await.expect("a create");
        assert_eq!(b.store.get(key, MOST).await.expect("a get"), *key);
        assert!(b.store.head(key).await.expect("a head").is_some(), "{key}");
    }
    expected.sort();
    assert_eq!(keys(&*b.store, "odd/").await, expected);
    for key in &expected {
        b.store.delete(key).await.expect("a delete");
    }
    assert_eq!(keys(&*b.store, "odd/").await, Vec::<String>::new());
}

async fn bad_keys(b: &Backend) {
    for key in ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/"] {
        assert!(b.store.put(key, Bytes::new()).await.is_err(), "{key}");
        assert!(b.store.get(key, MOST).await.is_err(), "{key}");
        assert!(b.store.delete(key).await.is_err(), "{key}");
    }
}

async fn there(b: &Backend) {
    b.store.check().await.expect("the store is there");
    let ahead = b.store.clock().await.expect("a clock") - chrono::Utc::now();
    assert!(ahead.num_seconds().unsigned_abs() < 60, "{ahead}");
    assert!(!b.store.place().is_empty());
}
