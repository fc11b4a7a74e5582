use proptest::collection::btree_map;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::namespace::Type;

const FIRST: &str = "20261122T030000Z-b2x7nd";
const SECOND: &str = "20261123T030000Z-7k3q9d";

/// A manifest with these namespaces.
fn manifest(id: &str, namespaces: Vec<NamespaceEntry>) -> Manifest {
    let json = json!({
        "format": 1, "id": id, "job": "shop", "tool": "uzima-backup", "host": "h",
        "started_at": "2026-11-22T03:00:00Z", "finished_at": "2026-11-22T03:00:10Z",
        "source": {"topology": "standalone", "member": "db1:27017", "version": "6.0.5"},
        "engine": {"name": "native", "why": "it was asked for"},
        "consistency": {"achieved": "none", "why": "standalone"},
        "selection": {"databases": [], "include": [], "exclude": []},
        "artifact": {"key": "a", "format": "tar.zst", "level": 3, "size": 1, "crc64nvme": "0", "part_size": 1},
        "index": {"key": "i", "size": 1, "blake3": "0"},
        "totals": {"namespaces": 0, "documents": 0, "raw_bytes": 0},
        "namespaces": [], "warnings": [], "notes": [],
    });
    Manifest { namespaces, ..serde_json::from_value(json).unwrap() }
}

fn entry(name: &str) -> NamespaceEntry {
    let (db, collection) = name.split_once('.').unwrap();
    NamespaceEntry {
        db: db.into(),
        collection: collection.into(),
        kind: Type::Collection,
        uuid: Some("1".into()),
        options_blake3: "options".into(),
        indexes: vec![index("_id_", "id")],
        documents: 10,
        raw_bytes: 1_000,
        stored_bytes: 100,
        xxh3_sum: "sum".into(),
        dropped: false,
    }
}

fn index(name: &str, blake3: &str) -> IndexEntry {
    IndexEntry { name: name.into(), blake3: blake3.into() }
}

fn compared(before: Vec<NamespaceEntry>, now: Vec<NamespaceEntry>, scope: &DiffScope) -> NamespaceDiffs {
    compare_namespaces(&manifest(FIRST, before), &manifest(SECOND, now), scope).unwrap()
}

/// The only difference, after a change of an entry.
fn after(change: impl FnOnce(&mut NamespaceEntry)) -> NamespaceDiff {
    let mut now = entry("shop.orders");
    change(&mut now);
    let diffs = compared(vec![entry("shop.orders")], vec![now], &DiffScope::All);
    assert_eq!(diffs.equal, 0);
    let [diff] = diffs.different.try_into().unwrap();
    assert_eq!(diff.change, DiffKind::Changed);
    diff
}

/// The facts of a changed namespace: documents, type, options, UUID.
fn facts(diff: &NamespaceDiff) -> [bool; 4] {
    [diff.documents_changed, diff.type_changed, diff.options_changed, diff.recreated]
}

#[test]
fn each_kind_of_change_is_found_alone() {
    assert_eq!(facts(&after(|entry| entry.xxh3_sum = "other".into())), [true, false, false, false]);
    assert_eq!(facts(&after(|entry| entry.kind = Type::View)), [false, true, false, false]);
    assert_eq!(facts(&after(|entry| entry.options_blake3 = "other".into())), [false, false, true, false]);
    assert_eq!(facts(&after(|entry| entry.uuid = Some("2".into()))), [false, false, false, true]);
    let more = after(|entry| (entry.documents, entry.raw_bytes) = (12, 1_200));
    assert_eq!(facts(&more), [true, false, false, false]);
    assert_eq!((more.documents_before, more.documents), (Some(10), Some(12)));
    assert_eq!((more.raw_bytes_before, more.raw_bytes), (Some(1_000), Some(1_200)));
    assert_eq!(more.to_be_read(), Some([0, 0]));
}

#[test]
fn indexes_that_come_go_or_change_are_named() {
    let with = |names: &[(&str, &str)]| NamespaceEntry {
        indexes: names.iter().map(|(name, blake3)| index(name, blake3)).collect(),
        ..entry("shop.orders")
    };
    let before = with(&[("_id_", "id"), ("a_1", "a"), ("b_1", "b"), ("c_1", "c")]);
    let now = with(&[("c_1", "c"), ("_id_", "id"), ("b_1", "unique"), ("d_1", "d")]);
    let diffs = compared(vec![before.clone()], vec![now], &DiffScope::All);
    let diff = &diffs.different[0];
    assert_eq!(diff.indexes_added, ["d_1"]);
    assert_eq!(diff.indexes_removed, ["a_1"]);
    assert_eq!(diff.indexes_changed, ["b_1"]);
    assert_eq!((facts(diff), diff.to_be_read()), ([false; 4], None));
    // The order of indexes is no difference.
    let mut turned = before.clone();
    turned.indexes.reverse();
    assert_eq!(compared(vec![before], vec![turned], &DiffScope::All).equal, 1);
}

#[test]
fn namespaces_that_come_or_go_have_no_other_change() {
    let diffs = compared(
        vec![entry("shop.old"), entry("shop.same")],
        vec![entry("shop.same"), entry("shop.new")],
        &DiffScope::All,
    );
    let shown: Vec<_> = diffs
        .different
        .iter()
        .map(|diff| (diff.namespace.as_str(), diff.change, diff.documents_before, diff.documents))
        .collect();
    assert_eq!(
        shown,
        [("shop.new", DiffKind::Added, None, Some(10)), ("shop.old", DiffKind::Removed, Some(10), None)]
    );
    assert_eq!(diffs.equal, 1);
    for diff in &diffs.different {
        assert_eq!(facts(diff), [true, false, false, false]);
        assert!(diff.selected && diff.indexes_added.is_empty() && diff.indexes_removed.is_empty());
        assert_eq!(diff.to_be_read(), None);
    }
}

#[test]
fn a_missing_uuid_is_no_difference() {
    let without = NamespaceEntry { uuid: None, ..entry("shop.orders") };
    assert_eq!(compared(vec![without], vec![entry("shop.orders")], &DiffScope::All).equal, 1);
}

#[test]
fn a_namespace_that_the_selection_leaves_out_is_marked() {
    let (mut before, now) = (manifest(FIRST, Vec::new()), manifest(SECOND, vec![entry("shop.tmp")]));
    before.selection.exclude = vec!["shop.tmp*".into()];
    let diffs = compare_namespaces(&before, &now, &DiffScope::All).unwrap();
    assert!(!diffs.different[0].selected);
    before.selection.exclude = vec!["shop.other".into()];
    let diffs = compare_namespaces(&before, &now, &DiffScope::All).unwrap();
    assert!(diffs.different[0].selected);
}

#[test]
fn only_the_named_database_or_namespace_is_compared() {
    let before = || vec![entry("shop.a"), entry("shop.b.c"), entry("shopping.a")];
    let names = |scope: &str| {
        let diffs = compared(before(), Vec::new(), &DiffScope::of(Some(scope)));
        diffs.different.into_iter().map(|diff| diff.namespace).collect::<Vec<_>>()
    };
    assert_eq!(names("shop"), ["shop.a", "shop.b.c"]);
    assert_eq!(names("shop.b.c"), ["shop.b.c"]);
    for (scope, what, near) in [("shops", "database", "shop"), ("shop.aa", "namespace", "shop.a")] {
        let (before, now) = (manifest(FIRST, before()), manifest(SECOND, Vec::new()));
        let error = compare_namespaces(&before, &now, &DiffScope::of(Some(scope))).unwrap_err();
        assert_eq!(error.kind(), crate::base::error::Kind::Usage);
        assert_eq!(error.to_string(), format!("neither {FIRST} nor {SECOND} has a {what} {scope}"));
        assert!(error.next_step().unwrap().contains(near), "{error:?}");
    }
}

fn namespaces() -> impl Strategy<Value = BTreeMap<String, NamespaceEntry>> {
    let fields = ("[ab]\\.[a-f]", 0..3_u64, "[xy]", "[op]", proptest::option::of("[12]"));
    let indexes = btree_map("[i-l]", "[12]", 0..4);
    let strategy = (fields, indexes).prop_map(|((name, documents, sum, options, uuid), indexes)| {
        let indexes = indexes.iter().map(|(name, blake3)| index(name, blake3)).collect();
        let changed = NamespaceEntry { documents, indexes, uuid, ..entry(&name) };
        (name, NamespaceEntry { xxh3_sum: sum, options_blake3: options, ..changed })
    });
    proptest::collection::vec(strategy, 0..12).prop_map(|all| all.into_iter().collect())
}

proptest! {
    #[test]
    fn random_changes_are_found_exactly(before in namespaces(), now in namespaces()) {
        let all = |map: &BTreeMap<String, NamespaceEntry>| map.values().cloned().collect::<Vec<_>>();
        let diffs = compared(all(&before), all(&now), &DiffScope::All);
        let found: BTreeMap<&str, &NamespaceDiff> =
            diffs.different.iter().map(|diff| (diff.namespace.as_str(), diff)).collect();
        let mut equal = 0;
        for name in before.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
            let diff = found.get(name.as_str()).copied();
            let (Some(was), Some(is)) = (before.get(name), now.get(name)) else {
                let kind = if before.contains_key(name) { DiffKind::Removed } else { DiffKind::Added };
                prop_assert_eq!(diff.map(|diff| diff.change), Some(kind), "{}", name);
                continue;
            };
            let documents = was.documents != is.documents || was.xxh3_sum != is.xxh3_sum;
            let recreated = was.uuid.is_some() && is.uuid.is_some() && was.uuid != is.uuid;
            let wanted = [documents, false, was.options_blake3 != is.options_blake3, recreated];
            let named = |of: &NamespaceEntry, other: &NamespaceEntry, same_name: bool| {
                let differs = |index: &&IndexEntry| match other.indexes.iter().find(|o| o.name == index.name) {
                    None => !same_name,
                    Some(other) => same_name && other.blake3 != index.blake3,
                };
                of.indexes.iter().filter(differs).map(|index| index.name.clone()).collect::<Vec<_>>()
            };
            let lists = [named(is, was, false), named(was, is, false), named(was, is, true)];
            match diff {
                None => {
                    prop_assert!(wanted == [false; 4] && lists.concat().is_empty(), "{} is missing", name);
                    equal += 1;
                }
                Some(diff) => {
                    prop_assert!(wanted != [false; 4] || !lists.concat().is_empty(), "{} is equal", name);
                    prop_assert_eq!(facts(diff), wanted);
                    let found = [&diff.indexes_added, &diff.indexes_removed, &diff.indexes_changed];
                    prop_assert_eq!(found.map(Clone::clone), lists);
                }
            }
        }
        prop_assert_eq!(diffs.equal, equal);
    }
}

/// `cargo test --lib two_manifests_with_2000 -- --nocapture` prints how long it takes.
#[test]
fn two_manifests_with_2000_namespaces_are_compared() {
    let entries = |sum: &str| -> Vec<NamespaceEntry> {
        let one = |n| NamespaceEntry { xxh3_sum: sum.into(), ..entry(&format!("tenants.customer_{n:05}")) };
        (0..2_000).map(one).collect()
    };
    let stored =
        [manifest(FIRST, entries("a")), manifest(SECOND, entries("b"))].map(|one| one.encode().unwrap());
    let began = std::time::Instant::now();
    let [before, now] = stored.map(|bytes| Manifest::decode(&bytes).unwrap());
    let diffs = compare_namespaces(&before, &now, &DiffScope::All).unwrap();
    println!("decoded and compared in {:?}", began.elapsed());
    assert_eq!(diffs.different.len(), 2_000);
}
