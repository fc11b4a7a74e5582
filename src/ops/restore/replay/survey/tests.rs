use bson::rawdoc;

use super::*;
use crate::dumpformat::oplog::script::ChangeForm;

fn named(collection: &str, buckets: bool) -> TargetNamespace {
    let collection = collection.to_string();
    TargetNamespace {
        db: "to".into(),
        collection: collection.clone(),
        buckets,
        from_db: "from".into(),
        from: collection,
    }
}

fn index(name: &str) -> RawDocumentBuf {
    let key = bson::serialize_to_raw_document_buf(&bson::doc! {name: 1}).unwrap();
    rawdoc! {"v": 2, "key": key, "name": name}
}

/// The catalog after these edits of the collection `c`, which was created first.
fn after(edits: Vec<IndexEdit>) -> Vec<Build> {
    let mut catalog = ReplayCatalog::default();
    catalog.follow(&create("c", false));
    edits.into_iter().for_each(|edit| catalog.follow(&ReplayStep::Index { to: named("c", false), edit }));
    catalog.builds()
}

fn create(name: &str, view: bool) -> ReplayStep {
    let form = ChangeForm::Operation(rawdoc! {});
    ReplayStep::Create { to: named(name, false), form, view, collated: false }
}

fn names(builds: &[Build]) -> Vec<&str> {
    builds.iter().flat_map(|build| &build.specs).map(|spec| spec.get_str("name").unwrap()).collect()
}

#[test]
fn indexes_come_and_go() {
    let put = |names: &[&str]| IndexEdit::Put(names.iter().map(|name| index(name)).collect());
    let own = IndexEdit::Put(vec![rawdoc! {"v": 2, "key": {"_id": 1}, "name": "_id_"}]);
    assert_eq!(names(&after(vec![own.clone(), put(&["a", "b"]), put(&["a"])])), ["b", "a"]);
    let by_name = IndexEdit::Remove("a".to_string().into());
    let by_key = IndexEdit::Remove(RawBson::Document(rawdoc! {"b": 1}));
    let unknown = IndexEdit::Remove("x".to_string().into());
    assert_eq!(names(&after(vec![put(&["a", "b", "c"]), by_name, by_key, unknown])), ["c"]);
    let all = IndexEdit::Remove("*".to_string().into());
    assert_eq!(names(&after(vec![own, put(&["a"]), all])), Vec::<&str>::new());
}

#[test]
fn options_change_as_list_indexes_shows_them() {
    let change = |change: RawDocumentBuf| IndexEdit::Change(change);
    let put = IndexEdit::Put(vec![rawdoc! {"v": 2, "key": {"a": 1}, "name": "a", "expireAfterSeconds": 5}]);
    let builds = after(vec![
        put,
        change(rawdoc! {"name": "a", "expireAfterSeconds": 9, "hidden": true}),
        change(rawdoc! {"keyPattern": {"a": 1}, "prepareUnique": true}),
        change(rawdoc! {"name": "a", "unique": true}),
        change(rawdoc! {"name": "gone later", "hidden": true}),
    ]);
    let want =
        rawdoc! {"key": {"a": 1}, "name": "a", "expireAfterSeconds": 9, "hidden": true, "unique": true};
    assert_eq!(builds[0].specs, [want]);
    let put = IndexEdit::Put(vec![rawdoc! {"key": {"a": 1}, "name": "a", "hidden": true, "unique": true}]);
    let builds = after(vec![
        put,
        change(rawdoc! {"name": "a", "hidden": false}),
        change(rawdoc! {"name": "a", "forceNonUnique": true}),
    ]);
    assert_eq!(builds[0].specs, [rawdoc! {"key": {"a": 1}, "name": "a"}]);
}

#[test]
fn namespaces_come_and_go() {
    let mut catalog = ReplayCatalog::default();
    let put = |name: &str, buckets| ReplayStep::Index {
        to: named(name, buckets),
        edit: IndexEdit::Put(vec![index("x")]),
    };
    for action in [create("c", false), create("v", true), put("c", false), put("series", true)] {
        catalog.follow(&action);
    }
    let on: Vec<String> = catalog.builds().into_iter().map(|build| build.on).collect();
    assert_eq!(on, ["c", "system.buckets.series"]);
    let command = rawdoc! {};
    catalog.follow(&ReplayStep::Rename { from: named("c", false), to: named("d", false), command });
    assert_eq!(catalog.builds()[0].on, "d");
    let all = |views| ReplayStep::DropAll { from_db: "from".into(), views };
    catalog.follow(&ReplayStep::DropAll { from_db: "other".into(), views: false });
    assert_eq!(catalog.of_database("from", true), [("to".to_string(), "v".to_string())]);
    catalog.follow(&all(true));
    assert_eq!(catalog.of_database("from", false).len(), 2);
    catalog.follow(&ReplayStep::Drop(named("d", false)));
    catalog.follow(&all(false));
    assert_eq!(catalog.keys().count(), 0);
}

#[test]
fn privileges_of_a_role_are_found_in_its_entries() {
    let privileges = || rawdoc! {"privileges": [{"actions": ["find"]}]};
    for change in [
        privileges(),
        rawdoc! {"$v": 1, "$set": privileges()},
        rawdoc! {"$v": 2, "diff": {"u": privileges()}},
    ] {
        let role = role_of("shop.clerk", &change).unwrap();
        assert_eq!((role.get_str("db").unwrap(), role.get_str("role").unwrap()), ("shop", "clerk"));
        assert!(role.get_array("privileges").is_ok());
    }
    assert_eq!(role_of("shop.clerk", &rawdoc! {"roles": []}), None);
}
