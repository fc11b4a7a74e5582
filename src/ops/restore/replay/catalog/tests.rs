use bson::rawdoc;

use super::*;
use crate::ops::restore::replay::action::Form;

fn named(collection: &str, buckets: bool) -> Named {
    let collection = collection.to_string();
    Named {
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
fn after(edits: Vec<Edit>) -> Vec<Build> {
    let mut catalog = Catalog::default();
    catalog.follow(&create("c", false));
    edits.into_iter().for_each(|edit| catalog.follow(&Action::Index { to: named("c", false), edit }));
    catalog.builds()
}

fn create(name: &str, view: bool) -> Action {
    let form = Form::Operation(rawdoc! {});
    Action::Create { to: named(name, false), form, view, collated: false }
}

fn names(builds: &[Build]) -> Vec<&str> {
    builds.iter().flat_map(|build| &build.specs).map(|spec| spec.get_str("name").unwrap()).collect()
}

#[test]
fn indexes_come_and_go() {
    let put = |names: &[&str]| Edit::Put(names.iter().map(|name| index(name)).collect());
    let own = Edit::Put(vec![rawdoc! {"v": 2, "key": {"_id": 1}, "name": "_id_"}]);
    assert_eq!(names(&after(vec![own.clone(), put(&["a", "b"]), put(&["a"])])), ["b", "a"]);
    let by_name = Edit::Remove("a".to_string().into());
    let by_key = Edit::Remove(RawBson::Document(rawdoc! {"b": 1}));
    let unknown = Edit::Remove("x".to_string().into());
    assert_eq!(names(&after(vec![put(&["a", "b", "c"]), by_name, by_key, unknown])), ["c"]);
    let all = Edit::Remove("*".to_string().into());
    assert_eq!(names(&after(vec![own, put(&["a"]), all])), Vec::<&str>::new());
}

#[test]
fn options_change_as_list_indexes_shows_them() {
    let change = |change: RawDocumentBuf| Edit::Change(change);
    let put = Edit::Put(vec![rawdoc! {"v": 2, "key": {"a": 1}, "name": "a", "expireAfterSeconds": 5}]);
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
    let put = Edit::Put(vec![rawdoc! {"key": {"a": 1}, "name": "a", "hidden": true, "unique": true}]);
    let builds = after(vec![
        put,
        change(rawdoc! {"name": "a", "hidden": false}),
        change(rawdoc! {"name": "a", "forceNonUnique": true}),
    ]);
    assert_eq!(builds[0].specs, [rawdoc! {"key": {"a": 1}, "name": "a"}]);
}

#[test]
fn namespaces_come_and_go() {
    let mut catalog = Catalog::default();
    let put =
        |name: &str, buckets| Action::Index { to: named(name, buckets), edit: Edit::Put(vec![index("x")]) };
    for action in [create("c", false), create("v", true), put("c", false), put("series", true)] {
        catalog.follow(&action);
    }
    let on: Vec<String> = catalog.builds().into_iter().map(|build| build.on).collect();
    assert_eq!(on, ["c", "system.buckets.series"]);
    let command = rawdoc! {};
    catalog.follow(&Action::Rename { from: named("c", false), to: named("d", false), command });
    assert_eq!(catalog.builds()[0].on, "d");
    let all = |views| Action::DropAll { from_db: "from".into(), views };
    catalog.follow(&Action::DropAll { from_db: "other".into(), views: false });
    assert_eq!(catalog.of_database("from", true), [("to".to_string(), "v".to_string())]);
    catalog.follow(&all(true));
    assert_eq!(catalog.of_database("from", false).len(), 2);
    catalog.follow(&Action::Drop(named("d", false)));
    catalog.follow(&all(false));
    assert_eq!(catalog.keys().count(), 0);
}
